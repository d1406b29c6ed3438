//! http (stub)
use crate::config::TlsConfig;
pub fn client(_tls: &TlsConfig) -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()
}
