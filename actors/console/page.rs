//! The status page: one document, its style and its script, live over server-sent events.
//!
//! ```text
//! browser --GET /--> page, page.css, page.js
//!         --GET /api/v1/events--> the status, as it changes
//!         --GET /api/v1/history--> a sample for each minute of the last day
//! ```
//!
//! Nothing is loaded from elsewhere, and the policy forbids it; what comes from outside is put in as text.

use super::desk::Desk;
use super::status::{JobStatus, Status};
use actix_web::http::header;
use actix_web::{HttpResponse, web};
use futures_util::stream;
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

/// What the page may do.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// Time between two looks at the status.
const LOOK: Duration = Duration::from_secs(1);
/// The status is sent at least so often, so that both sides know of each other.
const ALIVE: u32 = 10;
/// So many streams are served at once.
const STREAMS: usize = 16;
/// So many failing jobs are shown.
const JOBS: usize = 100;

static OPEN: AtomicUsize = AtomicUsize::new(0);

/// Where the page is.
pub fn routes(routes: &mut web::ServiceConfig) {
    routes
        .route("/", web::get().to(async || file("text/html", include_str!("page/index.html"))))
        .route("/page.css", web::get().to(async || file("text/css", include_str!("page/page.css"))))
        .route("/page.js", web::get().to(async || file("text/javascript", include_str!("page/page.js"))));
}

fn file(kind: &str, text: &'static str) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((header::REFERRER_POLICY, "no-referrer"))
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .content_type(format!("{kind}; charset=utf-8"))
        .body(text)
}

/// What one event holds.
#[derive(Serialize)]
struct Event {
    status: Status,
    jobs: Vec<JobStatus>,
}

/// One of the streams that are open, until dropped.
struct Place;

impl Place {
    fn take() -> Option<Self> {
        let taken = OPEN.fetch_update(SeqCst, SeqCst, |open| (open < STREAMS).then_some(open + 1));
        taken.is_ok().then_some(Place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, SeqCst);
    }
}

/// The status, and what fails: when it changes, and now and then.
pub async fn events(desk: web::Data<Desk>) -> HttpResponse {
    let Some(place) = Place::take() else {
        return HttpResponse::ServiceUnavailable().body("too many pages are open\n");
    };
    let (desk, shown) = (desk.into_inner(), String::new());
    let events = stream::unfold((desk, place, shown), |(desk, place, shown)| async move {
        let event = next(&desk, &shown).await;
        let text = web::Bytes::from(format!("event: status\ndata: {}\n\n", event.0));
        Some((Ok::<_, actix_web::Error>(text), (desk, place, event.1)))
    });
    HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .content_type("text/event-stream")
        .streaming(events)
}

/// The next event, and what it shows apart from the time.
async fn next(desk: &Arc<Desk>, shown: &str) -> (String, String) {
    for look in 0.. {
        if !shown.is_empty() {
            tokio::time::sleep(LOOK).await;
        }
        let event = look_at(desk).await;
        let text = serde_json::to_string(&event).unwrap_or_default();
        let timeless =
            Event { status: Status { now: 0, oldest_unsafe: None, ..event.status }, jobs: event.jobs };
        let timeless = serde_json::to_string(&timeless).unwrap_or_default();
        if timeless != shown || look >= ALIVE {
            return (text, timeless);
        }
    }
    (String::new(), String::new())
}

async fn look_at(desk: &Arc<Desk>) -> Event {
    let status = desk.status().await;
    let mut jobs = Vec::new();
    if status.lanes.iter().any(|lane| lane.quarantined + lane.failed > 0) {
        jobs = desk.jobs(None, None).await.unwrap_or_default();
        jobs.retain(|job| ["quarantined", "failed"].contains(&job.state.as_str()));
        jobs.sort_by_key(|job| job.state != "quarantined");
        jobs.truncate(JOBS);
    }
    Event { status, jobs }
}

/// A sample for each minute of the last day.
pub async fn history(desk: web::Data<Desk>) -> HttpResponse {
    HttpResponse::Ok().json(serde_json::json!({ "step": 60, "samples": desk.chronicle.samples() }))
}
