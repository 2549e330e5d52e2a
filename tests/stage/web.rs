//! An HTTP server on loopback whose answers the test makes.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use tokio::net::TcpListener;

/// One request.
#[derive(Clone, Debug)]
pub struct Visit {
    /// Path and query.
    pub target: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Visit {
    /// A header's text; empty when there is none.
    pub fn header(&self, name: &str) -> String {
        self.headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
    }
}

/// The server, on a runtime of its own; it ends when dropped.
pub struct Web {
    address: SocketAddr,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Web {
    /// On a free port. `answer` makes status and body.
    pub fn start<A, F>(answer: A) -> Self
    where
        A: Fn(Visit) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = (u16, String)> + Send + 'static,
    {
        Self::start_at(0, answer)
    }

    /// On a certain port, or a free one for 0.
    pub fn start_at<A, F>(port: u16, answer: A) -> Self
    where
        A: Fn(Visit) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = (u16, String)> + Send + 'static,
    {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", port))).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let answer = answer.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| reply(answer.clone(), request));
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Web { address, runtime: Some(runtime) }
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn reply<A, F>(answer: A, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, std::io::Error>
where
    A: Fn(Visit) -> F,
    F: Future<Output = (u16, String)>,
{
    let target = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    let headers = request.headers().clone();
    let body = request.into_body().collect().await.map_err(std::io::Error::other)?.to_bytes();
    let (status, text) = answer(Visit { target, headers, body }).await;
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    Ok(response)
}
