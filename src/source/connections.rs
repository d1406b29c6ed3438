//! The one place that requests to the service leave through, and the bound on how many of all tenants
//! together await an answer: tenants mostly share one host, and without it a thousand of them would
//! open five thousand connections at the start, each with buffers that stay.
//!
//! The way out is the network; or, for whoever runs service and collector as one (days of traffic in
//! seconds, on a clock that stands still while anything is at work), a function in this process.

use std::io;
use std::sync::Arc;

use axum::http;
use futures_util::future::BoxFuture;
use reqwest::{Body, Request, Response};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::http::{HttpClient, HttpFailure};

/// Requests that may await the head of their answer at once, over all tenants. At 200 ms an answer
/// this is 320 requests a second, what a thousand tenants polled every 30 seconds need.
const AWAITING: usize = 64;
/// And of one tenant: its fetches and listings of a moment. A host that hangs holds these for a `stall_timeout`
/// each, and no others.
const AWAITING_OF_TENANT: usize = 8;

/// Answers a request without a socket. An error stands for a connection that was refused or that broke
/// before the head of the answer; a body may fail as one read from a socket may.
pub type InProcess =
    Arc<dyn Fn(http::Request<Body>) -> BoxFuture<'static, io::Result<http::Response<Body>>> + Send + Sync>;

/// How requests reach the service.
#[derive(Clone)]
pub enum Transport {
    Network(HttpClient),
    InProcess(InProcess),
}

/// No head of an answer came.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    #[error(transparent)]
    Network(#[from] HttpFailure),
    #[error("the request cannot be made: {0}")]
    Request(#[from] reqwest::Error),
    #[error("{0}")]
    InProcess(#[from] io::Error),
}

/// Where requests to the service leave. Cheap to clone.
#[derive(Clone)]
pub struct Connections {
    transport: Transport,
    awaiting: Arc<Semaphore>,
    of_tenant: Arc<Semaphore>,
}

impl Connections {
    pub fn new(transport: Transport) -> Connections {
        let of_tenant = Arc::new(Semaphore::new(AWAITING_OF_TENANT));
        Connections { transport, awaiting: Arc::new(Semaphore::new(AWAITING)), of_tenant }
    }

    /// The same way out for one tenant; its clones count as this tenant.
    pub fn for_tenant(&self) -> Connections {
        Connections { of_tenant: Arc::new(Semaphore::new(AWAITING_OF_TENANT)), ..self.clone() }
    }

    /// Sends a request; returns when the head of the answer is there.
    ///
    /// # Errors
    /// There will be no answer.
    pub async fn send(&self, request: Request) -> Result<Response, TransportError> {
        match &self.transport {
            Transport::Network(client) => Ok(client.execute(request).await?),
            Transport::InProcess(answer) => {
                let limit = request.timeout().copied();
                let answer = answer(request.try_into()?);
                let answer = match limit {
                    Some(limit) => tokio::time::timeout(limit, answer).await.map_err(io::Error::from)?,
                    None => answer.await,
                };
                Ok(Response::from(answer?))
            }
        }
    }

    /// Waits for a turn; hold it until the head of the answer is there. `None` is never seen: the
    /// semaphore is not closed.
    pub async fn turn(&self) -> Option<[SemaphorePermit<'_>; 2]> {
        let own = self.of_tenant.acquire().await.ok()?;
        Some([own, self.awaiting.acquire().await.ok()?])
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn a_tenant_whose_host_hangs_leaves_turns_to_the_others() {
        let client = crate::http::client(&Default::default(), &Default::default(), None).unwrap();
        let all = Connections::new(Transport::Network(client));
        let (hung, other) = (all.for_tenant(), all.for_tenant());
        let grab =
            |of: &Connections| std::iter::from_fn(|| of.turn().now_or_never().flatten().map(std::mem::forget)).count();
        assert_eq!(grab(&hung.clone()), AWAITING_OF_TENANT);
        assert_eq!((grab(&hung), grab(&other)), (0, AWAITING_OF_TENANT));
        let rest: usize = (0..AWAITING).map(|_| grab(&all.for_tenant())).sum();
        assert_eq!(rest, AWAITING - 2 * AWAITING_OF_TENANT);
    }
}
