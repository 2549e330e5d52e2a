//! The control socket and the admin address: where a running drone is asked and told.
//!
//! ```text
//! people, scripts --HTTP--> console --> desk
//! ```
//!
//! Whatever changes something goes over the socket, which only its owner can open. The admin address only
//! answers, and only to requests that a browser on another site could not have made.

pub mod chronicle;
pub mod desk;
pub mod lab;
pub mod page;
pub mod status;

use crate::lab::{RelPath, unhex};
use actix::prelude::*;
use actix_web::dev::{Server, ServerHandle};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, guard, web};
use desk::Desk;
use kernel::{Exit, Verdict};
use serde::Deserialize;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tracing::info;

/// The largest request that is read, in bytes.
const LARGEST: usize = 1 << 20;

/// Time between two samples of the last day.
const MINUTE: Duration = Duration::from_secs(60);

/// Where the console listens.
#[derive(Clone, Debug)]
pub struct Places {
    /// The control socket.
    pub socket: PathBuf,
    /// The admin address.
    pub admin: SocketAddr,
    /// Opens the admin address to the programs that run the jobs.
    pub token: Option<config::Secret>,
}

/// The actor: one per drone.
pub struct Console {
    places: Places,
    desk: Arc<Desk>,
    verdict: Verdict,
    serving: Vec<ServerHandle>,
    /// Servers that have not ended.
    open: usize,
}

impl Console {
    /// Serves `desk` at `places`.
    pub fn new(places: Places, desk: Arc<Desk>, verdict: Verdict) -> Self {
        Console { places, desk, verdict, serving: Vec::new(), open: 0 }
    }
}

impl Actor for Console {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.desk.sample();
        ctx.run_interval(MINUTE, |act, _| act.desk.sample());
        match serve(&self.places, &self.desk) {
            Ok(servers) => {
                info!(socket = %self.places.socket.display(), admin = %self.places.admin, "console listens");
                for server in servers {
                    self.serving.push(server.handle());
                    self.open += 1;
                    ctx.spawn(server.into_actor(self).map(|ended, act, ctx| {
                        act.open -= 1;
                        if let Err(error) = ended {
                            act.verdict.leave(Exit::Failed(format!("the console's server ended: {error}")));
                        }
                        ctx.stop();
                    }));
                }
            }
            Err(error) => {
                let (socket, admin) = (self.places.socket.display(), self.places.admin);
                self.verdict.leave(Exit::Failed(format!("cannot listen on {socket} and {admin}: {error}")));
                ctx.stop();
            }
        }
    }

    /// Not before its addresses are free for the next one.
    fn stopping(&mut self, _: &mut Context<Self>) -> Running {
        for server in self.serving.drain(..) {
            drop(server.stop(false));
        }
        if self.open > 0 { Running::Continue } else { Running::Stop }
    }
}

/// Two servers, so that where a request came in decides what it may do, and nothing in the request does.
fn serve(places: &Places, desk: &Arc<Desk>) -> std::io::Result<[Server; 2]> {
    let (socket, admin) = (bind(&places.socket)?, TcpListener::bind(places.admin)?);
    let desk = web::Data::from(desk.clone());
    let told = desk.clone();
    let control = HttpServer::new(move || {
        let limit = web::JsonConfig::default().limit(LARGEST);
        let orders = web::scope("/api/v1")
            .route("/retry", web::post().to(retry))
            .route("/pause", web::post().to(pause))
            .route("/resume", web::post().to(resume))
            .route("/quarantine/drop", web::post().to(forget))
            .route("/containers/drain", web::post().to(containers_drain))
            .route("/containers/resume", web::post().to(containers_resume))
            .route("/reload", web::post().to(reload))
            .route("/reboot", web::post().to(reboot))
            .route("/queue/retry", web::post().to(queue_retry))
            .route("/queue/drop", web::post().to(queue_drop))
            .configure(questions)
            .service(web::scope("/lab").configure(lab::routes));
        App::new().app_data(told.clone()).app_data(limit).service(orders).default_service(web::to(nothing))
    });
    let control = control.workers(1).disable_signals().shutdown_timeout(1).listen_uds(socket)?.run();
    let token = places.token.clone();
    let answers = HttpServer::new(move || {
        let local = web::scope("")
            .guard(guard::fn_guard(|request| is_local(request.head())))
            .service(web::scope("/api/v1").configure(questions))
            .configure(page::routes)
            .route("/metrics", web::get().to(metrics))
            .route("/healthz", web::get().to(async || "alive\n"))
            .route("/readyz", web::get().to(ready));
        let lab = lab::guarded(token.clone());
        App::new().app_data(desk.clone()).service(lab).service(local).default_service(web::to(nothing))
    });
    let answers = answers.workers(1).disable_signals().shutdown_timeout(1).listen(admin)?.run();
    Ok([control, answers])
}

/// What may be asked wherever one comes from.
fn questions(routes: &mut web::ServiceConfig) {
    routes
        .route("/status", web::get().to(status))
        .route("/jobs", web::get().to(jobs))
        .route("/queue", web::get().to(queue))
        .route("/events", web::get().to(page::events))
        .route("/history", web::get().to(page::history))
        .route("/jobs/{hex}", web::get().to(job));
}

async fn nothing() -> HttpResponse {
    HttpResponse::Forbidden().body("not here, or not from there\n")
}

/// Makes the socket, for its owner only. One that nobody answers on was left by a crash; anything else that has
/// its name is somebody's file.
fn bind(path: &Path) -> std::io::Result<UnixListener> {
    let socket = std::fs::symlink_metadata(path).is_ok_and(|there| there.file_type().is_socket());
    if socket && UnixStream::connect(path).is_err() {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// A request for a loopback name that no page of another site has made.
fn is_local(head: &actix_web::dev::RequestHead) -> bool {
    let header = |name: &str| head.headers().get(name).and_then(|value| value.to_str().ok());
    let host = header("host").unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    header("origin").is_none() && ["localhost", "127.0.0.1", "[::1]"].contains(&name)
}

async fn status(desk: web::Data<Desk>) -> HttpResponse {
    HttpResponse::Ok().json(desk.status().await)
}

async fn metrics(desk: web::Data<Desk>) -> HttpResponse {
    let text = crate::metrics::of_drone(&desk.status().await);
    HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(text)
}

async fn ready(desk: web::Data<Desk>) -> HttpResponse {
    let status = desk.status().await;
    let reasons: Vec<String> =
        status.problems.into_iter().map(|problem| format!("{}: {}\n", problem.id, problem.text)).collect();
    match status.healthy {
        true => HttpResponse::Ok().body("ready\n"),
        false => HttpResponse::ServiceUnavailable().body(reasons.concat()),
    }
}

/// Which jobs are asked for.
#[derive(Debug, Deserialize)]
struct Which {
    state: Option<String>,
    lane: Option<String>,
}

async fn jobs(desk: web::Data<Desk>, which: web::Query<Which>) -> HttpResponse {
    match desk.jobs(which.state.as_deref(), which.lane.as_deref()).await {
        Ok(jobs) => HttpResponse::Ok().json(jobs),
        Err(error) => answer::<()>(Err(error.to_string())),
    }
}

async fn job(desk: web::Data<Desk>, request: HttpRequest) -> HttpResponse {
    let Some(job) = request.match_info().get("hex").and_then(path) else {
        return answer::<()>(Err("that is no job's path".into()));
    };
    match desk.history(job).await {
        Ok(Some(history)) => HttpResponse::Ok().json(history),
        Ok(None) => {
            HttpResponse::NotFound().json(serde_json::json!({ "error": "the ledger does not know this job" }))
        }
        Err(error) => answer::<()>(Err(error.to_string())),
    }
}

/// Jobs by the hex of their paths.
#[derive(Debug, Deserialize)]
struct Jobs {
    /// `None`: all that failed.
    jobs: Option<Vec<String>>,
    #[serde(default)]
    quarantined: bool,
}

async fn retry(desk: web::Data<Desk>, body: web::Json<Jobs>) -> HttpResponse {
    let jobs = body.jobs.as_ref().map(|jobs| jobs.iter().filter_map(|job| path(job)).collect::<Vec<_>>());
    match desk.retry(jobs.clone(), body.quarantined).await {
        Ok(0) if jobs.is_some() => {
            answer::<()>(Err("none of these jobs is waiting: see `dronekeeper jobs`".into()))
        }
        done => answer(done.map_err(|error| error.to_string())),
    }
}

/// A lane, or all.
#[derive(Debug, Deserialize)]
struct Hold {
    lane: Option<String>,
    seconds: Option<u64>,
    reason: Option<String>,
}

async fn pause(desk: web::Data<Desk>, body: web::Json<Hold>) -> HttpResponse {
    let Hold { lane, seconds, reason } = body.into_inner();
    let reason = reason.unwrap_or_else(|| "paused by hand".into());
    answer(desk.pause(lane, seconds.map(Duration::from_secs), reason).await)
}

async fn resume(desk: web::Data<Desk>, body: web::Json<Hold>) -> HttpResponse {
    answer(desk.resume(body.into_inner().lane).await)
}

async fn forget(desk: web::Data<Desk>, body: web::Json<Jobs>) -> HttpResponse {
    let mut count = 0;
    for job in body.jobs.iter().flatten().filter_map(|job| path(job)) {
        match desk.forget(job).await {
            Ok(known) => count += usize::from(known),
            Err(error) => return answer::<()>(Err(error.to_string())),
        }
    }
    answer(if count > 0 {
        Ok(count)
    } else {
        Err("this job is not quarantined: see `dronekeeper quarantine ls`".to_owned())
    })
}

/// A container, or all.
#[derive(Debug, Deserialize)]
struct Container {
    name: Option<String>,
}

async fn containers_drain(desk: web::Data<Desk>, body: web::Json<Container>) -> HttpResponse {
    drain(&desk, body.into_inner().name, true)
}

async fn containers_resume(desk: web::Data<Desk>, body: web::Json<Container>) -> HttpResponse {
    drain(&desk, body.into_inner().name, false)
}

fn drain(desk: &Desk, name: Option<String>, drain: bool) -> HttpResponse {
    let kept = desk.site.containers.drain(name, drain);
    answer(kept.map(|()| drain).map_err(|error| format!("in force, but lost by a restart: {error}")))
}

async fn reboot(desk: web::Data<Desk>) -> HttpResponse {
    desk.site.containers.ask_for_reboot();
    answer(Ok(true))
}

async fn reload(desk: web::Data<Desk>) -> HttpResponse {
    let looked = web::block(move || match desk.reload.get() {
        Some(reload) => reload.look(),
        None => Err("this process does not reload its configuration".into()),
    });
    match looked.await {
        Ok(verdict) => answer(verdict),
        Err(error) => answer::<()>(Err(error.to_string())),
    }
}

async fn queue(desk: web::Data<Desk>, which: web::Query<Which>) -> HttpResponse {
    let state = which.into_inner().state;
    let items = web::block(move || desk.site.queues.list(state.as_deref(), None)).await;
    match items {
        Ok(Ok(items)) => HttpResponse::Ok().json(items),
        Ok(Err(error)) => answer::<()>(Err(error.to_string())),
        Err(error) => answer::<()>(Err(error.to_string())),
    }
}

async fn queue_retry(desk: web::Data<Desk>, body: web::Json<Jobs>) -> HttpResponse {
    decide(body, move |jobs| desk.site.queues.retry(jobs.as_deref())).await
}

async fn queue_drop(desk: web::Data<Desk>, body: web::Json<Jobs>) -> HttpResponse {
    decide(body, move |jobs| desk.site.queues.forget(&jobs.unwrap_or_default())).await
}

/// Does what a person says of some items; none that it concerns is an error.
async fn decide(
    body: web::Json<Jobs>,
    work: impl FnOnce(Option<Vec<RelPath>>) -> Result<usize, crate::base::BaseError> + Send + 'static,
) -> HttpResponse {
    let jobs = body.jobs.as_ref().map(|jobs| jobs.iter().filter_map(|job| path(job)).collect::<Vec<_>>());
    match web::block(move || work(jobs)).await {
        Ok(Ok(0)) => {
            answer::<()>(Err("no item of these waits or gave up: see `dronekeeper queue list`".into()))
        }
        Ok(done) => answer(done.map_err(|error| error.to_string())),
        Err(error) => answer::<()>(Err(error.to_string())),
    }
}

fn path(hex: &str) -> Option<RelPath> {
    RelPath::new(unhex(hex)?).ok()
}

fn answer<T: serde::Serialize>(done: Result<T, String>) -> HttpResponse {
    match done {
        Ok(done) => HttpResponse::Ok().json(serde_json::json!({ "done": done })),
        Err(error) => HttpResponse::Conflict().json(serde_json::json!({ "error": error })),
    }
}
