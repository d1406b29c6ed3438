//! An elasticsearch sink as written → as meant: one address or several, one target, names that Elasticsearch takes.
//! Comes in: its section. Goes out: [`ElasticsearchConfig`], or faults. Opens nothing, asks nobody.

use std::time::Duration;

use url::Url;

use super::check_login::login;
use super::check_sinks::tls;
use super::elasticsearch::{
    DATA_STREAM, DataStream, ElasticsearchConfig, IndexTarget, Pipeline, address_of_cloud_id, fault_of_name,
};
use super::faults::{Place, Reader};
use super::file::ElasticsearchFile;
use super::proxy::ProxyFile;
use super::section::{Field, Section};
use super::values::{At, Compression};
use crate::config::{Format, ProxyConfig};

/// The place that templates of other sinks do not have.
const DAY: &str = "{day}";
/// Bytes of an index's name that may be fixed: with the rest it must stay below Elasticsearch's 255.
const FIXED_LENGTH: usize = 128;

/// The templates of the sink, without `{day}`, which is no place elsewhere.
pub(super) fn texts_of(file: &ElasticsearchFile) -> Vec<At<String>> {
    let without_day = |at: At<String>| At { value: at.value.replace(DAY, ""), place: at.place };
    file.index.clone().given().map(without_day).into_iter().collect()
}

/// Checks the section. `format`: of the sink, and where it was written.
pub(super) fn elasticsearch(
    file: ElasticsearchFile,
    format: (Format, Option<&Place>),
    proxy: &ProxyConfig,
    reader: &mut Reader<'_>,
) -> Option<ElasticsearchConfig> {
    let place = file.place;
    let urls = addresses(file.url, file.urls, file.cloud_id, &place, reader);
    let target = target(file.data_stream, file.index, reader);
    if format.0 == Format::Raw && matches!(target, Some(IndexTarget::DataStream(_))) {
        reader.fault(
            format.1.unwrap_or(&place),
            "a data stream wants `@timestamp`, which a record as Microsoft sends it does not have",
            "give `index`, for instance `o365-{content_type}-{day}`, or use `format: ecs`",
        );
    }
    let pipeline = match file.pipeline {
        Field::Absent => Some(Pipeline::None),
        written => written.value().map(|name| match name.as_str() {
            "_none" => Pipeline::None,
            "_default" => Pipeline::OfIndex,
            _ => Pipeline::Named(name),
        }),
    };
    let login = login(file.auth, None, reader);
    let proxy = file.proxy.value().map_or_else(|| proxy.clone(), |ProxyFile(own)| own);
    let tls = tls(file.tls.value().unwrap_or_default(), reader);
    let seconds = Duration::from_secs;
    let timeout = file.timeout.within(reader, (seconds(1), seconds(3600)), "between 1s and 1h", seconds(60), |d| *d);
    Some(ElasticsearchConfig {
        urls: urls?,
        target: target?,
        pipeline: pipeline?,
        gzip: file.compression.value().unwrap_or(Compression::Gzip) == Compression::Gzip,
        login: login?.beside(&tls, &proxy),
        tls,
        proxy,
        timeout,
    })
}

/// One of the three ways to say where the cluster is.
fn addresses(
    url: Field<At<Url>>,
    urls: Field<Vec<At<Url>>>,
    cloud_id: Field<String>,
    place: &Place,
    reader: &mut Reader<'_>,
) -> Option<Vec<Url>> {
    let faulty = matches!(url, Field::Faulty) || matches!(urls, Field::Faulty) || matches!(cloud_id, Field::Faulty);
    let (url, urls, cloud_id) = (url.given(), urls.given(), cloud_id.given());
    let places = [
        url.as_ref().map(|at| at.place.clone()),
        urls.as_ref().map(|at| at.place.clone()),
        cloud_id.as_ref().map(|at| at.place.clone()),
    ];
    let given: Vec<Place> = places.into_iter().flatten().collect();
    if given.is_empty() && !faulty {
        let title = ElasticsearchFile::TITLE;
        reader.fault(
            place,
            format!("`url` is missing in {title}"),
            "the cluster's address: `https://es:9200`; or `urls`, a list of them; or `cloud_id`",
        );
    }
    if let [_, second, ..] = given.as_slice() {
        let text = "the cluster's address is given twice";
        reader.fault(second, text, "give one of `url`, `urls` and `cloud_id`");
        return None;
    }
    if let Some(at) = url {
        return Some(vec![at.value.value]);
    }
    if let Some(at) = urls {
        let mut seen: Vec<&Url> = Vec::new();
        for one in &at.value {
            if seen.contains(&&one.value) {
                reader.fault(&one.place, "this address is in the list already", "name each node once");
            }
            seen.push(&one.value);
        }
        if at.value.is_empty() {
            reader.fault(&at.place, "the list of addresses is empty", "name one node of the cluster at least");
            return None;
        }
        return Some(at.value.into_iter().map(|one| one.value).collect());
    }
    let at = cloud_id?;
    match address_of_cloud_id(&at.value) {
        Ok(url) => Some(vec![url]),
        Err(why) => {
            let hint = "copy it from the deployment's page in Elastic Cloud, or give its endpoint as `url`";
            reader.fault(&at.place, format!("this is no cloud id: {why}"), hint);
            None
        }
    }
}

fn target(data_stream: Field<String>, index: Field<String>, reader: &mut Reader<'_>) -> Option<IndexTarget> {
    let faulty = matches!(data_stream, Field::Faulty) || matches!(index, Field::Faulty);
    match (data_stream.given(), index.given()) {
        (Some(_), Some(index)) => {
            reader.fault(
                &index.place,
                "the sink has both `data_stream` and `index`",
                "give one: a data stream, or plain indices",
            );
            None
        }
        (Some(stream), None) => match DataStream::parse(&stream.value) {
            Ok(stream) => Some(IndexTarget::DataStream(stream)),
            Err(why) => {
                let hint = format!("for instance `{DATA_STREAM}`; a stream of another name is given as `index`");
                reader.fault(&stream.place, why, hint);
                None
            }
        },
        (None, Some(index)) => self::index(index, reader),
        (None, None) if faulty => None,
        (None, None) => DataStream::parse(DATA_STREAM).ok().map(IndexTarget::DataStream),
    }
}

fn index(at: At<String>, reader: &mut Reader<'_>) -> Option<IndexTarget> {
    if ["{operation}", "{id}", "{key}"].iter().any(|place| at.value.contains(place)) {
        reader.fault(
            &at.place,
            "this would make an index for each operation or record",
            "use {tenant}, {tenant_id}, {content_type}, {workload} or {day} in `index`",
        );
        return None;
    }
    let fixed: String = at.value.split('{').map(|part| part.split_once('}').map_or(part, |(_, after)| after)).collect();
    let begins_with_place = at.value.starts_with('{');
    let fault = match fixed.len() > FIXED_LENGTH {
        true => Some(format!("the fixed part of an index's name has at most {FIXED_LENGTH} bytes")),
        // Behind a place a name goes on, so anything allowed may stand there.
        false => fault_of_name(&if begins_with_place { format!("x{fixed}") } else { fixed }),
    };
    match fault {
        Some(text) => {
            let hint =
                "small letters, digits, `-`, `_`, `.` and places in braces, for instance `o365-{content_type}-{day}`";
            reader.fault(&at.place, text, hint);
            None
        }
        None => Some(IndexTarget::Index(at.value)),
    }
}
