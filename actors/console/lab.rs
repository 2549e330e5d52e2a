//! `/api/v1/lab`: for the programs on the drone that run the jobs. On the control socket, and with a token at the
//! admin address.

use super::answer;
use super::desk::Desk;
use crate::lab::Digest;
use crate::roster::{JobView, LocalError};
use actix_web::{HttpRequest, HttpResponse, Scope, guard, web};
use serde::Deserialize;
use serde_json::json;
use std::time::SystemTime;

/// What can be asked and said.
pub fn routes(routes: &mut web::ServiceConfig) {
    routes
        .route("/jobs", web::get().to(jobs))
        .route("/jobs/{id}/start", web::post().to(start))
        .route("/jobs/{id}/complete", web::post().to(complete))
        .route("/hosts", web::get().to(hosts))
        .route("/hosts/{id}/status", web::post().to(host_status));
}

/// The same for those who show this token; without one there is nobody.
pub fn guarded(token: Option<config::Secret>) -> Scope {
    let expected = token.map(|token| Digest::of(format!("Bearer {}", token.expose()).as_bytes()));
    let knows = move |request: &guard::GuardContext<'_>| {
        let shown = request.head().headers().get("authorization").map(|shown| Digest::of(shown.as_bytes()));
        // Digests: how long the comparison takes says nothing of the token.
        expected.is_some() && shown == expected
    };
    web::scope("/api/v1/lab").guard(guard::fn_guard(knows)).configure(routes)
}

#[derive(Debug, Deserialize)]
struct Which {
    state: Option<String>,
}

async fn jobs(desk: web::Data<Desk>, which: web::Query<Which>) -> HttpResponse {
    let state = which.into_inner().state;
    if state.as_deref().is_some_and(|state| !["queued", "running", "complete"].contains(&state)) {
        return refused(&LocalError::Refused("`state` is queued, running or complete".into()));
    }
    said(desk.roster(move |roster| Ok(roster.jobs(state.as_deref())?)).await)
}

async fn hosts(desk: web::Data<Desk>) -> HttpResponse {
    said(desk.roster(|roster| Ok(roster.hosts()?)).await)
}

/// What a program says of a job.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Word {
    host_id: Option<i64>,
    status: Option<String>,
    execution_subdir: Option<String>,
}

async fn start(desk: web::Data<Desk>, request: HttpRequest, word: Option<web::Json<Word>>) -> HttpResponse {
    let Some(id) = number(&request) else { return answer::<()>(Err("that is no job's number".into())) };
    if let Some(why) = desk.full().await {
        return refused(&LocalError::Refused(why));
    }
    let host = word.and_then(|word| word.host_id);
    let started = desk.roster(move |roster| roster.start(id, host)).await;
    if let Ok(view) = &started {
        desk.site.inquiries.begun_here(&view.dir);
    }
    said(started)
}

async fn complete(desk: web::Data<Desk>, request: HttpRequest, word: web::Json<Word>) -> HttpResponse {
    let Some(id) = number(&request) else { return answer::<()>(Err("that is no job's number".into())) };
    let Word { status, execution_subdir, .. } = word.into_inner();
    let status = status.unwrap_or_else(|| "Completed".into());
    let done = desk.roster(move |roster| roster.complete(id, &status, execution_subdir.as_deref())).await;
    if let Ok(JobView { dir, .. }) = &done {
        desk.site.inquiries.completed_here(dir, SystemTime::now());
    }
    said(done)
}

async fn host_status(desk: web::Data<Desk>, request: HttpRequest, word: web::Json<Word>) -> HttpResponse {
    let Some(id) = number(&request) else { return answer::<()>(Err("that is no host's number".into())) };
    let status = word.into_inner().status.unwrap_or_default();
    said(desk.roster(move |roster| roster.host_status(id, &status)).await)
}

fn number(request: &HttpRequest) -> Option<i64> {
    request.match_info().get("id")?.parse().ok()
}

fn said<T: serde::Serialize>(done: Result<T, LocalError>) -> HttpResponse {
    match done {
        Ok(done) => HttpResponse::Ok().json(done),
        Err(error) => refused(&error),
    }
}

fn refused(error: &LocalError) -> HttpResponse {
    let mut response = match error {
        LocalError::Unknown(..) => HttpResponse::NotFound(),
        LocalError::Refused(_) => HttpResponse::Conflict(),
        LocalError::File(_) | LocalError::Journal(_) => HttpResponse::ServiceUnavailable(),
    };
    response.json(json!({ "error": crate::shown::chain(error) }))
}
