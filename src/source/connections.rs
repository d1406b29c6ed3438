//! The connections of all tenants together. Tenants mostly share one host, and without a bound a
//! thousand of them would open five thousand connections at the start, each with buffers that stay.

use std::sync::Arc;

use reqwest::{Method, RequestBuilder};
use tokio::sync::{Semaphore, SemaphorePermit};
use url::Url;

/// Requests that may await the head of their answer at once, over all tenants. At 200 ms an answer
/// this is 320 requests a second, what a thousand tenants polled every 30 seconds need.
const AWAITING: usize = 64;

/// Where requests to the service start from. Cheap to clone.
#[derive(Clone)]
pub struct Connections {
    http: reqwest::Client,
    awaiting: Arc<Semaphore>,
}

impl Connections {
    pub fn new(http: reqwest::Client) -> Connections {
        Connections { http, awaiting: Arc::new(Semaphore::new(AWAITING)) }
    }

    /// A request to be filled in.
    pub fn request(&self, method: Method, url: Url) -> RequestBuilder {
        self.http.request(method, url)
    }

    /// Waits for a turn; hold it until the head of the answer is there. `None` is never seen: the
    /// semaphore is not closed.
    pub async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.awaiting.acquire().await.ok()
    }
}
