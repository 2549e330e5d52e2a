//! The fleet: each drone with its last beat and what it says of itself, for people and for Prometheus.
//!
//! The page is one document without scripts or anything from elsewhere; it loads itself anew.

use super::door::{House, Meter};
use super::records::parsed;
use super::{Refusal, now};
use crate::metrics::{Exposition, Sample, count, one};
use serde::Serialize;
use serde_json::{Map, Value};
use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

/// What the page may do: nothing but look as it does.
pub const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// One drone.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct Drone {
    pub hostname: String,
    /// `ok`, `silent` or `never heard`.
    pub state: &'static str,
    /// Seconds since its last beat.
    pub last_beat: Option<i64>,
    pub hosts: i64,
    pub open_jobs: i64,
    /// What it says of itself.
    pub report: Map<String, Value>,
    /// Records that could not be taken, with the reason.
    pub refused: Vec<String>,
}

/// All drones, and what waits for one.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct Fleet {
    pub at: i64,
    pub drones: Vec<Drone>,
    /// Open jobs that no drone has.
    pub waiting: i64,
}

impl Fleet {
    /// Looks into the base.
    ///
    /// # Errors
    /// The base's.
    pub fn look(house: &House) -> Result<Self, Refusal> {
        let silent = house.settings.silent_after.as_secs().cast_signed();
        house.base.with(|tx| {
            let at = now();
            let count = |statement: &str, shard: i64| -> Result<i64, Refusal> {
                Ok(tx.row(statement, &[shard.into()])?.map_or(0, |row| row.int(0)))
            };
            let mut drones = Vec::new();
            for row in tx.rows("SELECT id, hostname, last_beat, report FROM shards ORDER BY hostname", &[])? {
                let last_beat = row.maybe(2).map(|beat| (at - beat).max(0));
                let refused =
                    "SELECT kind, id, why FROM refused WHERE shard_id = ?1 ORDER BY at DESC LIMIT 5";
                let refused = tx.rows(refused, &[row.int(0).into()])?;
                drones.push(Drone {
                    hostname: row.text(1).to_owned(),
                    state: match last_beat {
                        None => "never heard",
                        Some(age) if age > silent => "silent",
                        Some(_) => "ok",
                    },
                    last_beat,
                    hosts: count(
                        "SELECT count(*) FROM hosts WHERE shard_id = ?1 AND invalid = 0",
                        row.int(0),
                    )?,
                    open_jobs: count(
                        "SELECT count(*) FROM jobs WHERE shard_id = ?1 AND open = 1",
                        row.int(0),
                    )?,
                    report: parsed(row.text(3)),
                    refused: refused
                        .iter()
                        .map(|row| format!("{} {}: {}", row.text(0), row.int(1), row.text(2)))
                        .collect(),
                });
            }
            let waiting = "SELECT count(*) FROM jobs WHERE shard_id IS NULL AND open = 1";
            let waiting = tx.row(waiting, &[])?.map_or(0, |row| row.int(0));
            Ok(Fleet { at, drones, waiting })
        })
    }

    /// For people.
    pub fn html(&self) -> String {
        let silent = self.drones.iter().filter(|drone| drone.state != "ok").count();
        let troubled = self.drones.iter().filter(|drone| !drone.problems().is_empty()).count();
        let mut page = format!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <meta http-equiv=\"refresh\" content=\"10\"><title>{} drones, {silent} not heard, {troubled} in trouble\
             </title><style>{STYLE}</style></head><body><main><h1>Fleet</h1>\
             <p role=\"status\"><b>{}</b> drones, <b>{silent}</b> not heard, <b>{troubled}</b> in trouble, \
             <b>{}</b> jobs that no drone has</p><table><caption>Drones</caption><thead><tr>{}</tr></thead><tbody>",
            self.drones.len(),
            self.drones.len(),
            self.waiting,
            [
                "Drone",
                "State",
                "Last beat",
                "Version",
                "Disk",
                "Full in",
                "Backlog",
                "Oldest unsafe",
                "Failing",
                "Hosts",
                "Open jobs"
            ]
            .map(|head| format!("<th scope=\"col\">{head}</th>"))
            .concat(),
        );
        for drone in &self.drones {
            drone.rows(&mut page);
        }
        if self.drones.is_empty() {
            page.push_str(
                "<tr><td colspan=\"11\">No drone yet: dronekeeper hub ctl add-shard NAME</td></tr>",
            );
        }
        page.push_str("</tbody></table></main></body></html>\n");
        page
    }

    /// For Prometheus.
    pub fn metrics(&self, meter: &Meter) -> String {
        let mut all = Exposition::default();
        let (answered, refused) = (meter.answered.load(Relaxed), meter.refused.load(Relaxed));
        all.counter("dronekeeper_hub_requests_total", "Requests that were answered.", &one(count(answered)));
        all.counter("dronekeeper_hub_refused_total", "Requests that were refused.", &one(count(refused)));
        let beats = one(count(meter.beats.load(Relaxed)));
        all.counter("dronekeeper_hub_heartbeats_total", "Heartbeats that were answered.", &beats);
        all.gauge("dronekeeper_hub_jobs_waiting", "Open jobs that no drone has.", &one(self.waiting as f64));
        let mut each = |name: &str, help: &str, value: &dyn Fn(&Drone) -> Option<f64>| {
            let sample = |drone: &Drone| Some((vec![("drone", drone.hostname.clone())], value(drone)?));
            let samples: Vec<Sample<'_>> = self.drones.iter().filter_map(sample).collect();
            all.gauge(name, help, &samples);
        };
        let help = "When each drone was last heard, in seconds since 1970.";
        let heard = |drone: &Drone| drone.last_beat.map(|age| (self.at - age) as f64);
        each("dronekeeper_hub_drone_last_beat_timestamp_seconds", help, &heard);
        let help = "Open jobs of each drone.";
        each("dronekeeper_hub_drone_open_jobs", help, &|drone| Some(drone.open_jobs as f64));
        let help = "Whether each drone is heard.";
        each("dronekeeper_hub_drone_up", help, &|drone| Some(f64::from(u8::from(drone.state == "ok"))));
        all.text()
    }
}

impl Drone {
    fn number(&self, name: &str) -> Option<i64> {
        self.report.get(name).and_then(Value::as_i64)
    }

    fn problems(&self) -> Vec<&str> {
        let problems = self.report.get("problems").and_then(Value::as_array);
        problems.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    fn rows(&self, page: &mut String) {
        let class = match self.state {
            "ok" if self.problems().is_empty() => "ok",
            "ok" => "warn",
            _ => "bad",
        };
        let text = |name: &str| self.report.get(name).and_then(Value::as_str).map_or("–".into(), escaped);
        let count = |name: &str| self.number(name).map_or("–".into(), |number| number.to_string());
        let age = |name: &str| self.number(name).map_or("–".into(), span);
        let percent = self.number("disk_percent").map_or("–".into(), |percent| {
            format!("<meter min=\"0\" max=\"100\" high=\"85\" value=\"{percent}\"></meter> {percent} %")
        });
        let state = match self.report.get("draining").and_then(Value::as_bool) {
            Some(true) => format!("{}, draining", self.state),
            _ => self.state.to_owned(),
        };
        let _ = write!(page, "<tr class=\"{class}\"><th scope=\"row\">{}</th>", escaped(&self.hostname));
        let cells = [
            ("State", state),
            ("Last beat", self.last_beat.map_or("never".into(), |age| format!("{} ago", span(age)))),
            ("Version", text("version")),
            ("Disk", percent),
            ("Full in", age("full_in")),
            ("Backlog", count("backlog")),
            ("Oldest unsafe", age("oldest_unsafe")),
            ("Failing", count("failing")),
            ("Hosts", self.hosts.to_string()),
            ("Open jobs", self.open_jobs.to_string()),
        ];
        for (head, cell) in cells {
            let _ = write!(page, "<td data-head=\"{head}\">{cell}</td>");
        }
        page.push_str("</tr>");
        let notes: Vec<String> = self.problems().into_iter().map(escaped).collect();
        let refused = self.refused.iter().map(|refused| format!("not taken: {}", escaped(refused)));
        let notes: Vec<String> = notes.into_iter().chain(refused).collect();
        if !notes.is_empty() {
            let _ = write!(
                page,
                "<tr class=\"note\"><td colspan=\"11\"><details><summary>{} of {}</summary><ul>",
                notes.len(),
                escaped(&self.hostname)
            );
            for note in notes {
                let _ = write!(page, "<li>{note}</li>");
            }
            page.push_str("</ul></details></td></tr>");
        }
    }
}

/// A time in the largest unit that says enough.
fn span(seconds: i64) -> String {
    let units = [(172_800, 86_400, "d"), (7200, 3600, "h"), (120, 60, "min")];
    match units.into_iter().find(|(from, _, _)| seconds >= *from) {
        Some((_, size, unit)) => format!("{} {unit}", seconds / size),
        None => format!("{seconds} s"),
    }
}

/// Text from outside within a page.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in crate::shown::Shown::text(text).to_string().chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// Light and dark, desktop and phone.
const STYLE: &str = "
:root{color-scheme:light dark;--bad:#b3261e;--warn:#8a5a00;--ok:#1b6e3c;--line:#8884}
@media(prefers-color-scheme:dark){:root{--bad:#ff8a80;--warn:#ffc25c;--ok:#7fd8a0}}
body{font:15px/1.4 system-ui,sans-serif;margin:0;padding:1rem}main{max-width:80rem;margin:auto}
table{border-collapse:collapse;width:100%}caption{text-align:left;font-weight:600;padding:.3rem 0}
th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid var(--line);vertical-align:top}
tr.bad>td:first-of-type{color:var(--bad);font-weight:600}tr.warn>td:first-of-type{color:var(--warn);font-weight:600}
tr.ok>td:first-of-type{color:var(--ok)}meter{width:4rem}summary{cursor:pointer}
@media(max-width:45rem){thead{display:none}tr,th,td{display:block;border:0;padding:.1rem 0}
tr{border-bottom:1px solid var(--line);padding:.5rem 0}td[data-head]::before{content:attr(data-head) ': ';opacity:.7}}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_outside_becomes_markup() {
        let report =
            serde_json::from_str("{\"problems\": [\"<img src=x onerror=alert(1)>\"], \"version\": \"<b>\"}");
        let drone = Drone {
            hostname: "<script>".into(),
            state: "ok",
            last_beat: Some(7),
            hosts: 1,
            open_jobs: 2,
            report: report.unwrap(),
            refused: vec!["job 1: '\"<i>".into()],
        };
        let page = Fleet { at: 0, drones: vec![drone], waiting: 3 }.html();
        for markup in ["<script", "<img", "<b>&", "<i>"] {
            assert!(!page.contains(markup), "{markup} in {page}");
        }
        assert!(page.contains("&lt;script&gt;") && page.contains("7 s ago"));
    }
}
