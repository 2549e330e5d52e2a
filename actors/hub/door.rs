//! Where requests come in: who may, with how much, how often; and how they are answered.
//!
//! ```text
//! drones, people --HTTP(S)--> door --(methods)--> base
//! ```

use super::tokens::{Caller, Tokens};
use super::{Refusal, methods, page, records, schema};
use crate::base::Base;
use crate::shown::Shown;
use actix::prelude::*;
use actix_web::dev::{Server, ServerHandle};
use actix_web::http::header;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use config::Central;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use kernel::{Exit, Verdict};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::{debug, info, warn};

/// Answers of so many bytes and more are compressed for those who can read that.
const WORTH_IT: usize = 1024;
/// The rate is looked at over so long.
const MINUTE: Duration = Duration::from_secs(60);

/// What a hub works with. One per process.
pub struct House {
    /// What it knows.
    pub base: Base,
    /// Who is who.
    pub tokens: Tokens,
    /// What its operator said.
    pub settings: Central,
    /// What was asked of it.
    pub meter: Meter,
    rates: Mutex<HashMap<String, (Instant, u32)>>,
    tls: Option<ServerConfig>,
}

/// What was asked of a hub.
#[derive(Debug, Default)]
pub struct Meter {
    /// Requests that were answered.
    pub answered: AtomicU64,
    /// Requests that were refused.
    pub refused: AtomicU64,
    /// Heartbeats among the answered.
    pub beats: AtomicU64,
}

impl House {
    /// Prepares everything; nothing is listened for yet.
    ///
    /// # Errors
    /// What cannot work, in a sentence.
    pub fn open(settings: &Central) -> Result<Self, String> {
        let first = (settings.first_number > 0).then_some(settings.first_number);
        let base = Base::new(&settings.database, &settings.state_dir, first, schema::PURPOSE);
        let tokens = Tokens::open(&settings.state_dir, settings.require_tokens).map_err(|error| {
            format!("cannot keep the administrator's token in {}: {error}", settings.state_dir.display())
        })?;
        let tls = match (&settings.tls_cert, &settings.tls_key) {
            (Some(cert), Some(key)) => Some(tls(cert, key)?),
            _ => None,
        };
        Ok(House {
            base: base.map_err(|error| error.to_string())?,
            tokens,
            settings: settings.clone(),
            meter: Meter::default(),
            rates: Mutex::default(),
            tls,
        })
    }

    /// Has this caller asked too often?
    fn too_often(&self, who: &str) -> bool {
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if rates.len() > 10_000 {
            rates.retain(|_, (since, _)| now.duration_since(*since) < MINUTE);
        }
        let (since, count) = rates.entry(who.to_owned()).or_insert((now, 0));
        if now.duration_since(*since) >= MINUTE {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        *count > self.settings.requests_per_minute
    }
}

fn tls(cert: &Path, key: &Path) -> Result<ServerConfig, String> {
    let chain = CertificateDer::pem_file_iter(cert).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|error| format!("`hub.tls_cert` {}: {error}", cert.display()))?;
    let secret = PrivateKeyDer::from_pem_file(key);
    let secret = secret.map_err(|error| format!("`hub.tls_key` {}: {error}", key.display()))?;
    let built = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, secret);
    built.map_err(|error| format!("`hub.tls_cert` and `hub.tls_key` do not fit: {error}"))
}

/// The actor: one per hub.
pub struct Door {
    house: Arc<House>,
    verdict: Verdict,
    serving: Option<ServerHandle>,
}

impl Door {
    /// Serves `house`.
    pub fn new(house: Arc<House>, verdict: Verdict) -> Self {
        Door { house, verdict, serving: None }
    }
}

impl Actor for Door {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let listen = self.house.settings.listen;
        match serve(&self.house) {
            Ok(server) => {
                info!(%listen, tls = self.house.tls.is_some(), "hub listens");
                self.serving = Some(server.handle());
                ctx.spawn(server.into_actor(self).map(|ended, act, ctx| {
                    if let Err(error) = ended {
                        act.verdict.leave(Exit::Failed(format!("the hub's server ended: {error}")));
                    }
                    ctx.stop();
                }));
            }
            Err(error) => {
                self.verdict.leave(Exit::Failed(format!("cannot listen on {listen}: {error}")));
                ctx.stop();
            }
        }
    }

    fn stopped(&mut self, _: &mut Context<Self>) {
        if let Some(server) = self.serving.take() {
            drop(server.stop(true));
        }
    }
}

fn serve(house: &Arc<House>) -> std::io::Result<Server> {
    let listener = TcpListener::bind(house.settings.listen)?;
    let data = web::Data::from(house.clone());
    let limit = usize::try_from(house.settings.largest_request.0).unwrap_or(usize::MAX);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(data.clone())
            .app_data(web::PayloadConfig::new(limit))
            .route("/", web::get().to(fleet))
            .route("/api/v1/fleet", web::get().to(fleet_json))
            .route("/metrics", web::get().to(metrics))
            .route("/healthz", web::get().to(async || "alive\n"))
            .route("/readyz", web::get().to(ready))
            .default_service(web::post().to(rpc))
    });
    let server = server.workers(2).disable_signals().shutdown_timeout(5);
    let server = match house.tls.clone() {
        Some(tls) => server.listen_rustls_0_23(listener, tls)?,
        None => server.listen(listener)?,
    };
    Ok(server.run())
}

/// One JSON-RPC request, at whatever path (reference B1).
async fn rpc(house: web::Data<House>, request: HttpRequest, body: web::Bytes) -> HttpResponse {
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let authorization = header(header::AUTHORIZATION).to_owned();
    let gzip = header(header::CONTENT_ENCODING).eq_ignore_ascii_case("gzip");
    let takes_gzip = header(header::ACCEPT_ENCODING).contains("gzip");
    let peer = request.peer_addr().map_or(String::new(), |peer| peer.ip().to_string());
    // The base blocks; the server's threads must not.
    let answered = web::block(move || {
        let answered = answer(&house, &authorization, &peer, &body, gzip);
        let counted = if answered.is_ok() { &house.meter.answered } else { &house.meter.refused };
        counted.fetch_add(1, Relaxed);
        answered
    });
    match answered.await {
        Ok(Ok(result)) => {
            whole(200, &json!({ "result": result, "error": null, "id": "jsonrpc" }), takes_gzip)
        }
        Ok(Err(Refusal { name, message, status })) => {
            debug!(name, message, "refused");
            let error = json!({ "name": name, "message": message, "traceback": "" });
            whole(status, &json!({ "result": null, "error": error, "id": "jsonrpc" }), takes_gzip)
        }
        Err(_) => HttpResponse::ServiceUnavailable().body("the hub is ending\n"),
    }
}

fn whole(status: u16, answer: &Value, takes_gzip: bool) -> HttpResponse {
    let body = answer.to_string();
    let status = actix_web::http::StatusCode::from_u16(status).unwrap_or_default();
    let mut response = HttpResponse::build(status);
    response.content_type("application/json");
    if takes_gzip && body.len() >= WORTH_IT {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        if let Ok(packed) = encoder.write_all(body.as_bytes()).and_then(|()| encoder.finish()) {
            return response.insert_header((header::CONTENT_ENCODING, "gzip")).body(packed);
        }
        warn!("an answer could not be compressed");
    }
    response.body(body)
}

fn answer(house: &House, authorization: &str, peer: &str, body: &[u8], gzip: bool) -> Result<Value, Refusal> {
    let too_often = |who: &str| Refusal {
        status: 429,
        ..Refusal::bad(format!(
            "{} asks more than {} times a minute",
            Shown::text(who),
            house.settings.requests_per_minute
        ))
    };
    let caller = match house.tokens.caller(&house.base, authorization) {
        Ok(caller) => caller,
        // Guessing has a pace.
        Err(_) if house.too_often(peer) => return Err(too_often(peer)),
        Err(refusal) => return Err(refusal),
    };
    let who = match &caller {
        Caller::Drone(_, name) => name.clone(),
        Caller::Admin => "admin".into(),
        Caller::Anyone => peer.to_owned(),
    };
    if caller != Caller::Admin && house.too_often(&who) {
        return Err(too_often(&who));
    }
    let unpacked;
    let body = if gzip {
        unpacked = unpack(body, house.settings.largest_request.0)?;
        &unpacked
    } else {
        body
    };
    let request: Value = serde_json::from_slice(body).map_err(|error| Refusal {
        status: 400,
        ..Refusal::bad(format!("the request is no JSON: {error}"))
    })?;
    let method = request.get("method").and_then(Value::as_str).ok_or_else(|| Refusal::bad("no `method`"))?;
    let arguments = match request.get("params") {
        // The last element has the arguments by name.
        Some(Value::Array(params)) => match params.last() {
            None => records::Record::new(),
            Some(Value::Object(arguments)) => arguments.clone(),
            Some(_) => return Err(Refusal::bad("`params` has no object of named arguments")),
        },
        _ => return Err(Refusal::bad("`params` is no list")),
    };
    let done = house.base.with(|tx| methods::call(tx, &caller, method, &arguments))?;
    if method == "shard_heartbeat" {
        house.meter.beats.fetch_add(1, Relaxed);
    }
    Ok(done)
}

fn unpack(body: &[u8], at_most: u64) -> Result<Vec<u8>, Refusal> {
    let mut plain = Vec::new();
    let read = GzDecoder::new(body).take(at_most + 1).read_to_end(&mut plain);
    match read {
        Ok(size) if size as u64 <= at_most => Ok(plain),
        Ok(_) => Err(Refusal { status: 413, ..Refusal::bad(format!("more than {at_most} bytes, unpacked")) }),
        Err(error) => {
            Err(Refusal { status: 400, ..Refusal::bad(format!("the request is no gzip: {error}")) })
        }
    }
}

async fn looked(house: web::Data<House>) -> Result<page::Fleet, HttpResponse> {
    let look = web::block(move || page::Fleet::look(&house)).await;
    match look {
        Ok(Ok(fleet)) => Ok(fleet),
        Ok(Err(error)) => Err(HttpResponse::ServiceUnavailable().body(format!("{}\n", error.message))),
        Err(_) => Err(HttpResponse::ServiceUnavailable().body("the hub is ending\n")),
    }
}

async fn fleet(house: web::Data<House>) -> HttpResponse {
    match looked(house).await {
        Ok(fleet) => HttpResponse::Ok()
            .content_type("text/html; charset=utf-8")
            .insert_header(("Content-Security-Policy", page::POLICY))
            .body(fleet.html()),
        Err(response) => response,
    }
}

async fn fleet_json(house: web::Data<House>) -> HttpResponse {
    match looked(house).await {
        Ok(fleet) => HttpResponse::Ok().json(fleet),
        Err(response) => response,
    }
}

async fn metrics(house: web::Data<House>) -> HttpResponse {
    let meter = house.clone();
    match looked(house).await {
        Ok(fleet) => HttpResponse::Ok()
            .content_type("text/plain; version=0.0.4; charset=utf-8")
            .body(fleet.metrics(&meter.meter)),
        Err(response) => response,
    }
}

async fn ready(house: web::Data<House>) -> HttpResponse {
    match looked(house).await {
        Ok(_) => HttpResponse::Ok().body("ready\n"),
        Err(response) => response,
    }
}
