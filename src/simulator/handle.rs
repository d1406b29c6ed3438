//! Starts the server over a world, on HTTP/1.1 and h2, and hands out a handle on it.

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::response::Response;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::line::{Line, Lines};
use super::server::{Broken, Shared, handle, trap};
use super::service::Simulator;
use super::settings::WorldConfig;

/// A running simulator: a [`Simulator`] and the server over it. Dropping the handle ends it.
#[derive(Debug)]
pub struct SimulatorHandle {
    simulator: Simulator,
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl Deref for SimulatorHandle {
    type Target = Simulator;

    fn deref(&self) -> &Simulator {
        &self.simulator
    }
}

/// What a client on this machine calls; an unspecified address is no address to call.
fn local_url(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => format!("http://127.0.0.1:{}", v4.port()),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => format!("http://[::1]:{}", v6.port()),
        _ => format!("http://{address}"),
    }
}

/// Answers, or breaks the connection.
async fn over_line(state: State<Arc<Shared>>, ConnectInfo(line): ConnectInfo<Line>, request: Request) -> Response {
    let response = handle(state, request).await;
    if response.extensions().get::<Broken>().is_some() {
        line.cut();
    }
    response
}

/// Lays out the world and serves it until the handle is dropped or shut down.
///
/// # Errors
/// The listener has no address, or a second one for the trap could not be had.
pub async fn serve(config: WorldConfig, listener: TcpListener) -> std::io::Result<SimulatorHandle> {
    let address = listener.local_addr()?;
    let trap_listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let base = config.public_url.clone().unwrap_or_else(|| local_url(address));
    let simulator = Simulator::new(config, base, trap_listener.local_addr()?.to_string());
    let (stop, stopped) = watch::channel(false);
    let wait = |mut stopped: watch::Receiver<bool>| async move {
        let _ = stopped.wait_for(|stop| *stop).await;
    };
    let app = Router::new().fallback(over_line).with_state(Arc::clone(&simulator.shared));
    let app = app.into_make_service_with_connect_info::<Line>();
    let trap_app = Router::new().fallback(trap).with_state(Arc::clone(&simulator.shared));
    let main = axum::serve(Lines(listener), app).with_graceful_shutdown(wait(stopped.clone()));
    let side = axum::serve(trap_listener, trap_app).with_graceful_shutdown(wait(stopped));
    let task = tokio::spawn(async move {
        let (main, side) = tokio::join!(main.into_future(), side.into_future());
        if let Err(error) = main.and(side) {
            tracing::error!(%error, "the simulator stopped serving");
        }
    });
    Ok(SimulatorHandle { simulator, address, stop, task })
}

/// How long open connections may take to end at a shutdown.
const DRAIN: Duration = Duration::from_secs(2);

impl SimulatorHandle {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the task ends.
    pub async fn serve_forever(mut self) {
        let _ = (&mut self.task).await;
    }

    /// Stops accepting, gives open connections two seconds, ends.
    pub async fn shutdown(mut self) {
        let _ = self.stop.send(true);
        let _ = tokio::time::timeout(DRAIN, &mut self.task).await;
    }
}

impl Drop for SimulatorHandle {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        self.task.abort();
    }
}
