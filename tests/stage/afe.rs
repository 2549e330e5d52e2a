//! An Autotest AFE, as far as its finished jobs can be asked for: JSON-RPC over HTTP on loopback (reference B1).
//!
//! Jobs and special tasks are put in by the test. It can be in a bad mood, and remembers every request.

use crate::web::{Visit, Web};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// How it answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    /// As it should.
    #[default]
    Well,
    /// `[]` to everything, as after its database was truncated.
    Empty,
    /// HTTP status 500.
    Broken,
    /// An error of the server's own.
    Refusing,
    /// Half of an answer, and a cut connection.
    Half,
    /// Never.
    Silent,
}

/// One request that came in.
#[derive(Clone, Debug)]
pub struct Call {
    /// When.
    pub at: Instant,
    /// The method's name, from the address; that of the body must be the same.
    pub method: String,
    /// The keyword arguments.
    pub arguments: Value,
    /// The `Authorization` header.
    pub authorization: String,
}

#[derive(Default)]
struct State {
    mood: Mood,
    /// By id: when it was created, and the finish times of its queue entries, if it has finished.
    jobs: BTreeMap<u64, (String, Option<Vec<String>>)>,
    /// By id: when it finished, if it has.
    tasks: BTreeMap<u64, Option<String>>,
    calls: Vec<Call>,
}

/// The server; it ends when dropped.
pub struct Afe {
    state: Arc<Mutex<State>>,
    web: Web,
}

impl Afe {
    /// On a free port, knowing nothing.
    pub fn start() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let serving = state.clone();
        Afe { state, web: Web::start(move |visit| answer(serving.clone(), visit)) }
    }

    /// Its RPC address.
    pub fn url(&self) -> String {
        format!("http://{}/afe/server/noauth/rpc/", self.web.address())
    }

    /// Knows a job that has not finished.
    pub fn job(&self, id: u64) {
        self.state.lock().unwrap().jobs.insert(id, ("2014-09-04 12:00:00".into(), None));
    }

    /// A job has finished; its queue entries did at these times.
    pub fn finish(&self, id: u64, entries: &[&str]) {
        let entries = entries.iter().map(ToString::to_string).collect();
        self.state.lock().unwrap().jobs.insert(id, ("2014-09-04 12:00:00".into(), Some(entries)));
    }

    /// Knows a special task.
    pub fn task(&self, id: u64, finished: Option<&str>) {
        self.state.lock().unwrap().tasks.insert(id, finished.map(str::to_owned));
    }

    /// From now on it is in this mood.
    pub fn mood(&self, mood: Mood) {
        self.state.lock().unwrap().mood = mood;
    }

    /// The requests so far.
    pub fn calls(&self) -> Vec<Call> {
        self.state.lock().unwrap().calls.clone()
    }
}

async fn answer(state: Arc<Mutex<State>>, visit: Visit) -> (u16, String) {
    let method = visit.target.split_once("?method=").map(|(_, method)| method).unwrap_or_default().to_owned();
    let authorization = visit.header("authorization");
    let asked: Value = serde_json::from_slice(&visit.body).unwrap();
    assert_eq!(asked["method"], method.as_str(), "the body asks for another method than the address");
    assert_eq!(asked["id"], "jsonrpc");
    assert_eq!(asked["params"].as_array().map(Vec::len), Some(1), "arguments by name are the only element");
    let arguments = asked["params"][0].clone();
    let (mood, result) = {
        let mut state = state.lock().unwrap();
        let call =
            Call { at: Instant::now(), method: method.clone(), arguments: arguments.clone(), authorization };
        state.calls.push(call);
        (state.mood.clone(), result(&state, &method, &arguments))
    };
    let whole = |result: Value| json!({ "result": result, "error": null, "id": "jsonrpc" }).to_string();
    match mood {
        Mood::Well => (200, whole(result)),
        Mood::Empty => (200, whole(json!([]))),
        Mood::Broken => (500, "oh".into()),
        Mood::Refusing => {
            let error = json!({ "name": "DatabaseError", "message": "gone\naway", "traceback": "" });
            (200, json!({ "result": null, "error": error, "id": "jsonrpc" }).to_string())
        }
        Mood::Half => {
            let whole = whole(result);
            (200, whole[..whole.len() / 2].to_owned())
        }
        Mood::Silent => std::future::pending().await,
    }
}

fn result(state: &State, method: &str, arguments: &Value) -> Value {
    let asked = |key: &str| -> Vec<u64> {
        let ids = arguments[key].as_array().expect("asked without ids").iter();
        ids.map(|id| id.as_str().expect("ids are text").parse().unwrap()).collect()
    };
    match method {
        "get_jobs" => {
            let only = arguments.get("finished") == Some(&json!(true));
            let known = asked("id__in").into_iter().filter_map(|id| Some((id, state.jobs.get(&id)?)));
            let jobs = known.filter(|(_, (_, finished))| !only || finished.is_some());
            jobs.map(|(id, (created, _))| json!({ "id": id, "created_on": created, "owner": "debug" }))
                .collect()
        }
        "get_host_queue_entries" => {
            assert_eq!(arguments["finished_on__isnull"], json!(false));
            let known = asked("job_id__in").into_iter().filter_map(|id| Some((id, state.jobs.get(&id)?)));
            let entries = known.flat_map(|(id, (_, finished))| {
                let times = finished.clone().unwrap_or_default();
                times.into_iter().map(move |at| json!({ "id": 1, "job": { "id": id }, "finished_on": at }))
            });
            entries.collect()
        }
        "get_special_tasks" => {
            let only = arguments.get("is_complete") == Some(&json!(true));
            let known = asked("id__in").into_iter().filter_map(|id| Some((id, state.tasks.get(&id)?)));
            let tasks = known.filter(|(_, finished)| !only || finished.is_some());
            tasks.map(|(id, finished)| json!({ "id": id, "time_finished": finished })).collect()
        }
        other => panic!("asked for {other}"),
    }
}
