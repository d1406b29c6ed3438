//! Addresses that a response has no business to name: where a careless client would carry its token.

/// Forms of an address that is not the service's; `{T}` is the trap, `{B}` the service's root, `{H}`
/// its host and port, `{P}` path and query of the real address.
const FORMS: &[&str] = &[
    "http://{T}{P}",
    "https://{T}{P}",
    "HTTP://{T}{P}",
    "//{T}{P}",
    "///{T}{P}",
    "http:\\\\{T}{P}",
    "http:/{T}{P}",
    "http:{T}{P}",
    "\\\\{T}{P}",
    "/\\{T}{P}",
    "http://{H}@{T}{P}",
    "http://{H}:80@{T}{P}",
    "http://user:pass@{T}{P}",
    "http://{H}%40{T}{P}",
    "http://{H}\\@{T}{P}",
    "http://{T}\\@{H}{P}",
    "http://{T}#@{H}{P}",
    "http://{T}?@{H}{P}",
    "http://{T}/{H}{P}",
    "http://{T};{H}{P}",
    "http://{H}.attacker.invalid{P}",
    "http://attacker.invalid{P}",
    "http://manage.office.com.attacker.invalid{P}",
    "http://xn--manage-office-com.invalid{P}",
    "http://[::1]:1{P}",
    "http://[::ffff:127.0.0.1]:1{P}",
    "http://0x7f000001:1{P}",
    "http://2130706433:1{P}",
    "http://127.1:1{P}",
    "http://0.0.0.0:1{P}",
    "http://localhost:1{P}",
    "http://169.254.169.254/latest/meta-data/",
    "ftp://{H}{P}",
    "file:///etc/passwd",
    "gopher://{T}/_GET",
    "data:application/json,[]",
    "javascript:alert(1)",
    "ws://{H}{P}",
    "",
    " http://{T}{P}",
    "\thttp://{T}{P}",
    "http://{T}:99999{P}",
    "http://",
    "not an address",
    "{B}/../../{T}{P}",
    "{B}.{T}{P}",
];

/// How many forms there are.
pub const FORGED_FORMS: usize = FORMS.len();

/// The forged address number `form` (they repeat).
pub(super) fn url(form: usize, base: &str, trap: &str, real: &str) -> String {
    let path = real.strip_prefix(base).unwrap_or("/");
    let host = base.rsplit('/').next().unwrap_or("");
    FORMS[form % FORMS.len()].replace("{T}", trap).replace("{B}", base).replace("{H}", host).replace("{P}", path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_forty_forms_and_none_is_the_real_one() {
        let real = "http://127.0.0.1:9/api/v1.0/x";
        let all: std::collections::HashSet<String> =
            (0..FORMS.len()).map(|k| url(k, "http://127.0.0.1:9", "127.0.0.1:8", real)).collect();
        assert!(all.len() >= 40);
        assert!(!all.contains(real));
    }
}
