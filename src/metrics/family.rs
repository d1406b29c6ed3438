//! Counters and gauges with labels, small: a series costs some 70 bytes where a `prometheus` one costs 600,
//! because it carries no description and no label text of its own. A provider with a thousand tenants has
//! over a hundred thousand of them.
//!
//! Comes in: label values, as text. Goes out: a handle to count by, and `prometheus`' own model of the
//! family when it is collected. Never forgets a series by itself.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{self, LabelPair, MetricFamily, MetricType};

/// The most labels of a family.
pub(super) const MOST_LABELS: usize = 3;

/// The values of a series' labels, by their numbers in [`Names`]; unused places are 0.
type Key = [u32; MOST_LABELS];

/// Every label value once, for all families.
#[derive(Default)]
pub(super) struct Names(RwLock<Known>);

#[derive(Default)]
struct Known {
    numbers: HashMap<Arc<str>, u32>,
    names: Vec<Arc<str>>,
}

impl Names {
    fn known(&self, name: &str) -> Option<u32> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).numbers.get(name).copied()
    }

    /// The number of `name`, a new one if it is new.
    fn number(&self, name: &str) -> u32 {
        if let Some(number) = self.known(name) {
            return number;
        }
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = known.numbers.get(name) {
            return *number;
        }
        let number = u32::try_from(known.names.len()).unwrap_or(u32::MAX);
        let name: Arc<str> = name.into();
        known.names.push(Arc::clone(&name));
        known.numbers.insert(name, number);
        number
    }
}

/// What a series is: something that only grows, or something that is set.
pub trait Kind: Send + Sync {
    /// As Prometheus calls it.
    const TYPE: MetricType;

    /// `prometheus`' model of one value.
    fn model(value: i64) -> proto::Metric;
}

/// A value that only grows.
pub struct Growing;
/// A value that is set.
pub struct Level;

impl Kind for Growing {
    const TYPE: MetricType = MetricType::COUNTER;

    fn model(value: i64) -> proto::Metric {
        let (mut metric, mut counter) = (proto::Metric::default(), proto::Counter::default());
        counter.set_value(value as f64);
        metric.set_counter(counter);
        metric
    }
}

impl Kind for Level {
    const TYPE: MetricType = MetricType::GAUGE;

    fn model(value: i64) -> proto::Metric {
        let mut gauge = proto::Gauge::default();
        gauge.set_value(value as f64);
        proto::Metric::from_gauge(gauge)
    }
}

/// One series. Cheap to share; it goes on counting, unseen, when its family has forgotten it.
pub struct Series<K> {
    value: Arc<AtomicI64>,
    kind: PhantomData<K>,
}

/// A series of [`Counters`].
pub type Counter = Series<Growing>;
/// A series of [`Gauges`].
pub type Gauge = Series<Level>;

impl<K> Clone for Series<K> {
    fn clone(&self) -> Series<K> {
        Series { value: Arc::clone(&self.value), kind: PhantomData }
    }
}

impl Counter {
    pub fn inc(&self) {
        self.inc_by(1);
    }

    pub fn inc_by(&self, more: u64) {
        self.value.fetch_add(more.cast_signed(), Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.value.load(Ordering::Relaxed).cast_unsigned()
    }
}

impl Gauge {
    pub fn set(&self, value: i64) {
        self.value.store(value, Ordering::Relaxed);
    }

    pub fn inc(&self) {
        self.add(1);
    }

    pub fn dec(&self) {
        self.sub(1);
    }

    pub fn add(&self, more: i64) {
        self.value.fetch_add(more, Ordering::Relaxed);
    }

    pub fn sub(&self, less: i64) {
        self.value.fetch_sub(less, Ordering::Relaxed);
    }

    pub fn get(&self) -> i64 {
        self.value.load(Ordering::Relaxed)
    }
}

/// All series of one name. Cheap to share.
pub struct Family<K>(Arc<Inner>, PhantomData<K>);

/// Counters that differ by their labels.
pub type Counters = Family<Growing>;
/// Gauges that differ by their labels.
pub type Gauges = Family<Level>;

struct Inner {
    desc: Desc,
    labels: &'static [&'static str],
    names: Arc<Names>,
    series: RwLock<HashMap<Key, Arc<AtomicI64>>>,
}

impl<K> Clone for Family<K> {
    fn clone(&self) -> Family<K> {
        Family(Arc::clone(&self.0), PhantomData)
    }
}

impl<K: Kind> Family<K> {
    /// A family without series. At most [`MOST_LABELS`] labels.
    pub(super) fn new(
        name: &str,
        help: &str,
        labels: &'static [&'static str],
        names: &Arc<Names>,
    ) -> prometheus::Result<Family<K>> {
        if labels.len() > MOST_LABELS {
            return Err(prometheus::Error::InconsistentCardinality { expect: MOST_LABELS, got: labels.len() });
        }
        let owned = labels.iter().map(|&label| label.to_owned()).collect();
        let desc = Desc::new(name.to_owned(), help.to_owned(), owned, HashMap::new())?;
        Ok(Family(Arc::new(Inner { desc, labels, names: Arc::clone(names), series: RwLock::default() }), PhantomData))
    }

    /// The series of these label values, in the order of declaration; 0 from now on if it is new.
    pub fn with_label_values(&self, values: &[&str]) -> Series<K> {
        debug_assert_eq!(values.len(), self.0.labels.len(), "{}", self.0.desc.fq_name);
        let key = self.key(values);
        if let Some(value) = self.0.series.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Series { value: Arc::clone(value), kind: PhantomData };
        }
        let mut series = self.0.series.write().unwrap_or_else(PoisonError::into_inner);
        Series { value: Arc::clone(series.entry(key).or_default()), kind: PhantomData }
    }

    fn key(&self, values: &[&str]) -> Key {
        let mut key = Key::default();
        for (place, value) in key.iter_mut().zip(values) {
            *place = self.0.names.number(value);
        }
        key
    }

    /// Forgets every series that has all of these label values: of a tenant, a feed or a sink that is no more.
    pub fn forget(&self, labels: &[(&str, &str)]) {
        let place = |(label, value): &(&str, &str)| {
            let place = self.0.labels.iter().position(|known| known == label)?;
            Some((place, self.0.names.known(value)?))
        };
        let Some(places) = labels.iter().map(place).collect::<Option<Vec<_>>>() else { return };
        let mut series = self.0.series.write().unwrap_or_else(PoisonError::into_inner);
        let before = series.len();
        series.retain(|key, _| !places.iter().all(|(place, number)| key[*place] == *number));
        if series.len() < before {
            series.shrink_to_fit();
        }
    }
}

impl Counters {
    /// The sum over all labels.
    pub fn total(&self) -> u64 {
        let series = self.0.series.read().unwrap_or_else(PoisonError::into_inner);
        series.values().map(|value| value.load(Ordering::Relaxed).cast_unsigned()).sum()
    }
}

impl<K: Kind> Collector for Family<K> {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.0.desc]
    }

    /// The family with its series in the order of their labels; with none, when there are none.
    fn collect(&self) -> Vec<MetricFamily> {
        let known = self.0.names.0.read().unwrap_or_else(PoisonError::into_inner);
        let series = self.0.series.read().unwrap_or_else(PoisonError::into_inner);
        let name = |number: u32| known.names.get(number as usize).map_or("", |name| name);
        let mut sorted: Vec<(&Key, i64)> =
            series.iter().map(|(key, value)| (key, value.load(Ordering::Relaxed))).collect();
        sorted.sort_unstable_by_key(|(key, _)| key.map(name));
        let metrics = sorted.into_iter().map(|(key, value)| {
            let labels = self.0.labels.iter().zip(key).map(|(&label, number)| {
                let mut pair = LabelPair::default();
                pair.set_name(label.to_owned());
                pair.set_value(name(*number).to_owned());
                pair
            });
            let mut metric = K::model(value);
            metric.set_label(labels.collect());
            metric
        });
        let mut family = MetricFamily::default();
        family.set_name(self.0.desc.fq_name.clone());
        family.set_help(self.0.desc.help.clone());
        family.set_field_type(K::TYPE);
        family.set_metric(metrics.collect());
        vec![family]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_told_by_all_its_labels_and_shown_in_their_order() {
        let names = Arc::new(Names::default());
        let blobs = Counters::new("blobs_total", "blobs", &["tenant", "type"], &names).unwrap();
        blobs.with_label_values(&["b", "x"]).inc_by(2);
        blobs.with_label_values(&["a", "y"]).inc();
        blobs.with_label_values(&["b", "x"]).inc();
        assert_eq!((blobs.with_label_values(&["b", "x"]).get(), blobs.total()), (3, 4));
        let shown = |family: &Counters| -> Vec<(String, f64)> {
            let of = |m: &proto::Metric| (m.get_label()[0].value().to_owned(), m.get_counter().get_value());
            family.collect()[0].get_metric().iter().map(of).collect()
        };
        assert_eq!(shown(&blobs), [("a".to_owned(), 1.0), ("b".to_owned(), 3.0)]);
        blobs.forget(&[("type", "b")]);
        blobs.forget(&[("tenant", "a"), ("type", "x")]);
        blobs.forget(&[("tenant", "b"), ("type", "x")]);
        assert_eq!(shown(&blobs), [("a".to_owned(), 1.0)]);
        assert!(Counters::new("x", "x", &["1", "2", "3", "4"], &names).is_err());
    }

    #[test]
    fn a_gauge_goes_both_ways() {
        let gauges = Gauges::new("waiting", "w", &["sink"], &Arc::default()).unwrap();
        let gauge = gauges.with_label_values(&["s"]);
        gauge.set(5);
        gauge.dec();
        gauge.add(-7);
        assert_eq!(gauges.with_label_values(&["s"]).get(), -3);
    }
}
