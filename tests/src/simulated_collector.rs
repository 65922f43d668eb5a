//! What an OpenTelemetry collector takes, as far as routers are concerned: OTLP over HTTP, kept to be looked at.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use opentelemetry_proto::tonic::metrics::v1::{Metric, MetricsData};
use opentelemetry_proto::tonic::trace::v1::{Span, TracesData};
use prost::Message;
use tokio::sync::oneshot;

/// Listens until it is dropped.
pub struct SimulatedCollector {
    address: SocketAddr,
    taken: Arc<Mutex<Taken>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// What was sent.
#[derive(Default)]
pub struct Taken {
    /// All spans.
    pub spans: Vec<Span>,
    /// The metrics of the last message.
    pub metrics: Vec<Metric>,
    /// The headers of the last message.
    pub headers: HeaderMap,
    /// So many messages were refused, to be sent again.
    pub refused: usize,
}

/// So many messages with traces are refused at first.
const REFUSALS: usize = 1;

impl SimulatedCollector {
    /// Listens at a port of the system's choice.
    ///
    /// # Errors
    /// The system's.
    pub fn start() -> anyhow::Result<Self> {
        Self::serve(Router::new().route("/v1/traces", post(traces)).route("/v1/metrics", post(metrics)))
    }

    /// One that takes everything and looks at nothing, as if it were on another machine.
    ///
    /// # Errors
    /// The system's.
    pub fn start_elsewhere() -> anyhow::Result<Self> {
        let take = post(async |body: Bytes| drop(body));
        Self::serve(Router::new().route("/v1/traces", take.clone()).route("/v1/metrics", take))
    }

    fn serve(router: Router<Arc<Mutex<Taken>>>) -> anyhow::Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let taken: Arc<Mutex<Taken>> = Arc::default();
        let router = router.with_state(Arc::clone(&taken));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name("collector".into()).spawn(move || {
            runtime.block_on(async move {
                let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
                let stopped = async { drop(stopped.await) };
                let _ = axum::serve(listener, router).with_graceful_shutdown(stopped).await;
            });
        });
        let thread = thread.context("no thread for the collector")?;
        Ok(Self { address, taken, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What was sent so far.
    pub fn taken(&self) -> MutexGuard<'_, Taken> {
        locked(&self.taken)
    }
}

impl Drop for SimulatedCollector {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn locked(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn traces(State(taken): State<Arc<Mutex<Taken>>>, headers: HeaderMap, body: Bytes) -> Response {
    let mut taken = locked(&taken);
    if taken.refused < REFUSALS {
        taken.refused += 1;
        return (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "0")]).into_response();
    }
    let Ok(data) = TracesData::decode(body) else { return StatusCode::BAD_REQUEST.into_response() };
    taken.headers = headers;
    let scopes = data.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
    taken.spans.extend(scopes.flat_map(|scope| scope.spans));
    answer(&ExportTraceServiceResponse::default())
}

async fn metrics(State(taken): State<Arc<Mutex<Taken>>>, body: Bytes) -> Response {
    let mut taken = locked(&taken);
    let Ok(data) = MetricsData::decode(body) else { return StatusCode::BAD_REQUEST.into_response() };
    let scopes = data.resource_metrics.into_iter().flat_map(|resource| resource.scope_metrics);
    taken.metrics = scopes.flat_map(|scope| scope.metrics).collect();
    answer(&ExportMetricsServiceResponse::default())
}

fn answer(message: &impl Message) -> Response {
    ([("content-type", "application/x-protobuf")], message.encode_to_vec()).into_response()
}
