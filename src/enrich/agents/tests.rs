//! What stands in records of Microsoft 365, and what it is.

use serde_json::{Value, json};

use super::*;

fn read(agents: &Agents, text: &str) -> Value {
    let mut out = Vec::new();
    agents.write(text, &mut out);
    let members = String::from_utf8(out).unwrap();
    assert!(members.is_empty() || members.ends_with(','), "{members}");
    serde_json::from_str(&format!("{{{}}}", members.trim_end_matches(','))).unwrap()
}

const CHROME: &str =
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36";

#[test]
fn browsers_clients_and_tools_are_named() {
    let windows = json!({"full": "Windows 10", "name": "Windows", "version": "10"});
    let agents = Agents::new();
    for (text, expected) in [
        (CHROME, json!({"name": "Chrome", "version": "120.0.0.0", "os": windows})),
        (&format!("{CHROME} Edg/120.0.2210.91"), json!({"name": "Edge", "version": "120.0.2210.91", "os": windows})),
        (
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.1 Safari/605.1.15",
            json!({"name": "Safari", "version": "17.1", "os": {"full": "Mac OS X 10.15.7", "name": "Mac OS X", "version": "10.15.7"},
                   "device": {"name": "Mac"}}),
        ),
        (
            "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:120.0) Gecko/20100101 Firefox/120.0",
            json!({"name": "Firefox", "version": "120.0", "os": {"name": "Ubuntu"}}),
        ),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 17_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.1 Mobile/15E148 Safari/604.1",
            json!({"name": "Mobile Safari", "version": "17.1", "os": {"full": "iOS 17.1", "name": "iOS", "version": "17.1"},
                   "device": {"name": "iPhone"}}),
        ),
        (
            "Mozilla/5.0 (Linux; Android 13; SM-S918B) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/119.0.0.0 Mobile Safari/537.36",
            json!({"name": "Chrome Mobile", "version": "119.0.0.0", "os": {"full": "Android 13", "name": "Android", "version": "13"},
                   "device": {"name": "Samsung SM-S918B"}}),
        ),
        (
            "Microsoft Office/16.0 (Windows NT 10.0; Microsoft Outlook 16.0.17126; Pro)",
            json!({"name": "Outlook", "version": "2016", "os": windows}),
        ),
        (
            "Outlook-iOS/731.6003.prod.iphone (4.28.0)",
            json!({"name": "Outlook-iOS", "version": "4.28.0", "os": {"name": "iOS"}, "device": {"name": "iPhone"}}),
        ),
        (
            "Outlook-Android/2.0",
            json!({"name": "Outlook-Android", "version": "2.0", "os": {"name": "Android"}, "device": {"name": "Generic Smartphone"}}),
        ),
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Teams/1.6.00.33567 Chrome/108.0.5359.215 Electron/22.3.25 Safari/537.36",
            json!({"name": "Microsoft Teams", "version": "1.6.00.33567", "os": windows}),
        ),
        (
            "Microsoft SkyDriveSync 23.246.1127.0002 ship; Windows NT 10.0 (19045)",
            json!({"name": "Microsoft SkyDriveSync", "version": "23.246.1127", "os": windows}),
        ),
        ("OneDriveMpc-Transform_Thumbnail/1.0", json!({"name": "OneDriveMpc-Transform_Thumbnail", "version": "1.0"})),
        ("python-requests/2.31.0", json!({"name": "Python Requests", "version": "2.31"})),
        ("axios/1.6.2", json!({"name": "axios", "version": "1.6.2"})),
        ("curl/8.4.0", json!({"name": "curl", "version": "8.4.0"})),
        ("Go-http-client/2.0", json!({"name": "Go-http-client", "version": "2.0"})),
        (
            "Mozilla/5.0 (Windows NT; Windows NT 10.0; en-US) WindowsPowerShell/5.1.19041.3803",
            json!({"name": "WindowsPowerShell", "version": "5.1.19041", "os": windows}),
        ),
        (
            "Mozilla/5.0 (Windows NT 10.0; Microsoft Windows 10.0.19045; en-US) PowerShell/7.4.0",
            json!({"name": "PowerShell", "version": "7.4.0", "os": windows}),
        ),
        ("BAV2ROPC", json!({"name": "BAV2ROPC"})),
        ("aadrm/1.0 (a \"quoted\" word)", json!({"name": "aadrm", "version": "1.0"})),
    ] {
        assert_eq!(read(&agents, text), expected, "{text}");
        // From memory.
        assert_eq!(read(&agents, text), expected, "{text}");
    }
}

#[test]
fn what_says_nothing_gives_nothing() {
    let agents = Agents::new();
    for text in ["", "-", "Mozilla/5.0", "something else", "/1.0", "1/2", "a b/1.0", "\u{0}\u{1f600}"] {
        assert_eq!(read(&agents, text), json!({}), "{text:?}");
    }
}

#[test]
fn a_text_without_an_end_is_cut_between_letters() {
    let agents = Agents::new();
    let long = format!("curl/8.4.0 {}", "ü".repeat(1 << 20));
    assert_eq!(read(&agents, &long), json!({"name": "curl", "version": "8.4.0"}));
}

#[test]
fn nothing_is_compiled_before_the_first_text() {
    let agents = Agents::new();
    agents.write("", &mut Vec::new());
    assert!(agents.extractor.get().is_none());
}
