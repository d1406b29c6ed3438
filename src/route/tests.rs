//! Conditions on feeds and records, and what a feed may need.

use std::sync::Arc;

use tokio::sync::watch;

use super::*;
use crate::config::load_str;
use crate::feed::{ContentType, Tenant};

const SINK: SinkId = SinkId(3);

/// The route of one sink with this condition.
fn routes(when: &str) -> Routes {
    let tenant = |name: &str, n: u8| {
        format!(
            "{{name: {name}, tenant_id: 00000000-0000-4000-8000-00000000000{n}, client_id: 00000000-0000-4000-8000-00000000000b, auth: {{client_secret: x}}}}"
        )
    };
    let text = format!(
        "tenants: [{}, {}]\nsinks: [{{name: s, type: stdout, when: {when}}}]",
        tenant("contoso", 1),
        tenant("fabrikam", 2)
    );
    let config = load_str("c.yaml", &text).unwrap_or_else(|faults| panic!("{faults}"));
    let mut routes = Routes::default();
    routes.add(SINK, &config.sinks[0]);
    routes
}

fn feed(tenant: &str, content_type: ContentType) -> Feed {
    Feed { tenant: Arc::new(Tenant { name: tenant.into(), id: tenant.into(), domains: Vec::new() }), content_type }
}

/// Whether the record of contoso's Exchange feed is wanted.
fn wants(when: &str, record: &str) -> bool {
    let (routes, feed) = (routes(when), feed("contoso", ContentType::Exchange));
    let view = View::parse(record.as_bytes()).unwrap();
    !routes.wanted(&feed, routes.of(&feed), Some(&view)).is_empty()
}

#[test]
fn tenant_and_content_type_are_decided_before_any_record() {
    let always = |when: &str, tenant: &str, of| {
        let route = routes(when).of(&feed(tenant, of));
        assert!(route.perhaps.is_empty(), "{when}");
        !route.always.is_empty()
    };
    let (exchange, dlp) = (ContentType::Exchange, ContentType::Dlp);
    assert!(always("{tenant: contoso}", "contoso", dlp) && !always("{tenant: contoso}", "fabrikam", dlp));
    assert!(!always("{tenant: {not: contoso}}", "contoso", dlp) && always("{tenant: {prefix: fab}}", "fabrikam", dlp));
    let both = "{tenant: [contoso, fabrikam], content_type: audit.exchange}";
    assert!(always(both, "fabrikam", exchange) && !always(both, "fabrikam", dlp));
    assert!(always("{kind: audit}", "contoso", dlp) && !always("{kind: alert}", "contoso", dlp));
    // What is false by the feed is false whatever the record; what is true in an `any` likewise.
    assert!(!always("{tenant: fabrikam, operation: Send}", "contoso", dlp));
    assert!(always("{any: [{content_type: DLP.All}, {operation: Send}]}", "contoso", dlp));
}

#[test]
fn each_key_is_read_from_the_record() {
    let login = r#"{"Operation":"UserLoginFailed","Workload":"AzureActiveDirectory","RecordType":15,"UserId":"Ann@Contoso.com","ClientIP":"[2001:db8::7]:443","ResultStatus":"Success"}"#;
    for yes in [
        "{workload: azureactivedirectory}",
        "{operation: [Send, UserLoginFailed]}",
        "{operation: {prefix: [Add, userlog]}}",
        "{outcome: failure}",
        "{record_type: 15}",
        "{record_type: azureactivedirectorystslogon}",
        "{record_type: {prefix: AzureActiveDirectory}}",
        "{user: ann@contoso.com}",
        "{source_ip: 2001:db8::7}",
        "{source_ip: {cidr: [10.0.0.0/8, '2001:db8::/32']}}",
        "{user: {not: bob@contoso.com}}",
        "{operation: {prefix: User, not: UserLoggedIn}}",
        "{any: [{workload: Exchange}, {any: [{outcome: failure}]}]}",
    ] {
        assert!(wants(yes, login), "{yes}");
    }
    for no in [
        "{workload: Exchange}",
        "{workload: Exchange, any: [{outcome: failure}]}",
        "{outcome: [success, unknown]}",
        "{record_type: {prefix: SharePoint}}",
        "{source_ip: {cidr: 10.0.0.0/8}}",
        "{operation: {prefix: User, not: {prefix: UserLogin}}}",
        "{operation: UserLoginFailed, user: bob@contoso.com}",
    ] {
        assert!(!wants(no, login), "{no}");
    }
}

#[test]
fn what_a_record_lacks_is_no_value_and_an_outcome_that_is_not_said_is_unknown() {
    assert!(!wants("{operation: Send}", "{}") && wants("{operation: {not: Send}}", "{}"));
    assert!(wants("{outcome: unknown}", "{}") && !wants("{outcome: {not: unknown}}", "{}"));
    assert!(!wants("{source_ip: {cidr: 0.0.0.0/0}}", "{}"));
}

#[test]
fn what_nobody_could_read_goes_where_it_may_be_wanted() {
    let exchange = feed("contoso", ContentType::Exchange);
    let wanted = |when: &str| !routes(when).wanted(&exchange, routes(when).of(&exchange), None).is_empty();
    assert!(wanted("{operation: Send}") && wanted("{operation: {not: Send}}"));
    assert!(!wanted("{tenant: fabrikam}") && !wanted("{kind: alert, operation: Send}"));
}

#[test]
fn a_feed_fetches_while_all_that_it_may_need_takes_data() {
    let (down, told) = watch::channel(SinkSet::EMPTY);
    let (journal, written) = watch::channel(true);
    let intake = |when: &str| {
        let (_, routes) = watch::channel(Arc::new(routes(when)));
        Intake::new(routes, told.clone(), written.clone())
    };
    let (contoso, fabrikam) = (feed("contoso", ContentType::Dlp), feed("fabrikam", ContentType::Dlp));
    assert!(intake("{tenant: contoso}").takes(&contoso));
    down.send_replace(SinkSet::of(SINK));
    assert!(!intake("{tenant: contoso}").takes(&contoso) && intake("{tenant: contoso}").takes(&fabrikam));
    assert!(!intake("{operation: Send}").takes(&fabrikam), "one of its records may be wanted");
    assert_eq!(intake("{tenant: contoso}").held_by(&contoso), SinkSet::of(SINK));
    down.send_replace(SinkSet::of(SinkId(0)));
    assert!(intake("{tenant: contoso}").takes(&contoso), "another sink is down");
    journal.send_replace(false);
    assert!(!intake("{tenant: contoso}").takes(&contoso), "nothing is begun that could not be written down");
}
