//! An S3 endpoint for measurements: takes writes, answers with right checksums, keeps no bytes of results.
//!
//! It must cost less than the clients that are measured on it. So it parses HTTP itself, hashes nothing but
//! CRC64NVME and keeps of an object its size, its checksum and an ETag that is made of these; only what lies
//! below a `.dronekeeper…` directory (claims, manifests, the probe's object) can be read back. It checks no
//! signature. `GET /-/count` tells how many results, bytes and manifests it holds, `DELETE /-/count` forgets all.

mod measure;
mod shelf;
mod wire;

use measure::Measure;
use shelf::Shelf;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use wire::Wire;

/// A sink on loopback, on threads of its own; it ends when dropped.
pub struct Sink {
    address: SocketAddr,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Sink {
    /// Listens on a port, or on a free one for 0. Each answer leaves `latency` after its request has come.
    pub fn start(port: u16, latency: Duration, threads: usize) -> std::io::Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", port)))?;
        let address = listener.local_addr()?;
        let shelf = Arc::new(Shelf::default());
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shelf = shelf.clone();
                // A client that breaks off has nothing more to be told.
                tokio::spawn(async move { serve(stream, &shelf, latency).await.ok() });
            }
        });
        Ok(Sink { address, runtime: Some(runtime) })
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn serve(stream: TcpStream, shelf: &Shelf, latency: Duration) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut wire = Wire::new(stream);
    while let Some(head) = wire.head().await? {
        let mut measure = Measure::new(head.target.contains(".dronekeeper") || head.method == "POST");
        wire.body(&head, &mut measure).await?;
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        wire.send(&shelf.answer(&head, measure.done())).await?;
        if head.closes {
            break;
        }
    }
    Ok(())
}
