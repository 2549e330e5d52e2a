//! Tells a running hub what an administrator says, over HTTP like everybody else.

use super::args::CtlCommand;
use crate::say;
use crate::status::Status;
use actors::hub::tokens::ADMIN;
use actors::link::Link;
use actors::shown::{Shown, chain};
use config::{Central, Secret};
use serde_json::{Map, Value, json};
use std::path::Path;
use std::time::Duration;

/// A hub answers within so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Does one command.
pub fn ctl(hub: &Central, url: Option<&str>, token_file: Option<&Path>, command: &CtlCommand) -> Status {
    let file = token_file.map_or_else(|| hub.state_dir.join(ADMIN), Path::to_owned);
    let token = match std::fs::read_to_string(&file) {
        Ok(token) => Secret::new(token.trim()),
        Err(error) => {
            say::error(format_args!("cannot read the administrator's token {}: {error}", file.display()));
            say::note("  = help: the hub writes it when it is first started; name another with --token-file");
            return Status::NotRunning;
        }
    };
    let asked = match arguments(command) {
        Ok(asked) => asked,
        Err(why) => {
            say::error(why);
            return Status::Failed;
        }
    };
    let url = url.map_or_else(|| address(hub), str::to_owned);
    // On this machine the hub's own certificate is the one to trust.
    let ca_file = hub.tls_cert.clone();
    let settings = config::Hub {
        url: vec![url],
        token: Some(token),
        ca_file,
        timeout: PATIENCE,
        ..config::Hub::default()
    };
    let answered = Link::open(&settings, 1000, "admin").map_err(|error| chain(&error)).and_then(|link| {
        let link = link.ok_or("no address")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let (method, arguments) = &asked;
        let done = runtime.block_on(link.call::<Option<Value>>(method, arguments, PATIENCE));
        done.map_err(|error| chain(&error))
    });
    match answered {
        Ok(answer) => {
            show(command, &answer.unwrap_or_default());
            Status::Ok
        }
        Err(why) => {
            say::error(why);
            Status::Failed
        }
    }
}

/// Where the hub is for somebody on its machine.
fn address(hub: &Central) -> String {
    let scheme = if hub.tls_cert.is_some() { "https" } else { "http" };
    let host =
        if hub.listen.ip().is_unspecified() { "localhost".to_owned() } else { hub.listen.ip().to_string() };
    format!("{scheme}://{host}:{}/rpc/", hub.listen.port())
}

/// The method of a command, and its arguments.
fn arguments(command: &CtlCommand) -> Result<(&'static str, Value), String> {
    Ok(match command {
        CtlCommand::Shards => ("get_shards", json!({})),
        CtlCommand::Hosts => ("get_hosts", json!({})),
        CtlCommand::Jobs { ids } if ids.is_empty() => ("get_jobs", json!({})),
        CtlCommand::Jobs { ids } => ("get_jobs", json!({ "id__in": ids })),
        CtlCommand::AddShard { name, labels, keep_token } => {
            let token = keep_token.as_ref().map(std::fs::read_to_string).transpose();
            let token = token.map_err(|error| format!("cannot read the token: {error}"))?;
            let mut arguments = json!({ "hostname": name, "labels": labels });
            if let (Some(token), Some(arguments)) = (token, arguments.as_object_mut()) {
                arguments.insert("token".into(), token.trim().into());
            }
            ("add_shard", arguments)
        }
        CtlCommand::RotateToken { name } => ("rotate_token", json!({ "hostname": name })),
        CtlCommand::AddBoard { name, label } => {
            ("add_board_to_shard", json!({ "hostname": name, "label": label }))
        }
        CtlCommand::RemoveBoard { name, label } => {
            ("remove_board_from_shard", json!({ "hostname": name, "label": label }))
        }
        CtlCommand::DeleteShard { name } => ("delete_shard", json!({ "hostname": name })),
        CtlCommand::AddHost { name, labels } => ("add_host", json!({ "hostname": name, "labels": labels })),
        CtlCommand::CreateJob { name, boards, hosts, owner, control_file, keyvals, count } => {
            let control = control_file.as_ref().map(std::fs::read_to_string).transpose();
            let control = control.map_err(|error| format!("cannot read the control file: {error}"))?;
            let pairs: Option<Map<String, Value>> = keyvals
                .iter()
                .map(|pair| pair.split_once('=').map(|(key, value)| (key.to_owned(), Value::from(value))))
                .collect();
            let pairs = pairs.ok_or("--keyval takes KEY=VALUE")?;
            let arguments = json!({
                "name": name, "meta_hosts": boards, "hosts": hosts, "owner": owner, "keyvals": pairs,
                "control_file": control.unwrap_or_default(), "count": count,
            });
            ("create_jobs", arguments)
        }
        CtlCommand::Abort { ids } => ("abort_jobs", json!({ "id__in": ids })),
        CtlCommand::CreateTask { host, task } => {
            ("create_special_task", json!({ "hostname": host, "task": task }))
        }
    })
}

fn show(command: &CtlCommand, answer: &Value) {
    let text = |value: &Value, name: &str| match value.get(name) {
        Some(Value::String(text)) => Shown::text(text).to_string(),
        Some(Value::Null) | None => "–".to_owned(),
        Some(Value::Array(list)) => {
            let names = list.iter().map(|item| item.as_str().or(item.get("name").and_then(Value::as_str)));
            names.flatten().map(|name| Shown::text(name).to_string()).collect::<Vec<_>>().join(" ")
        }
        Some(other) => other.to_string(),
    };
    let table = |fields: &[&str]| {
        for item in answer.as_array().into_iter().flatten() {
            let cells: Vec<String> =
                fields.iter().map(|field| format!("{:<12}", text(item, field))).collect();
            say::line(cells.join("  ").trim_end());
        }
    };
    match command {
        CtlCommand::Shards => table(&["hostname", "last_beat", "labels"]),
        CtlCommand::Hosts => table(&["id", "hostname", "status", "labels"]),
        CtlCommand::Jobs { .. } => table(&["id", "name", "owner", "created_on", "shard"]),
        CtlCommand::AddShard { .. } | CtlCommand::RotateToken { .. } => {
            say::line(answer.get("token").and_then(Value::as_str).unwrap_or_default());
        }
        CtlCommand::CreateJob { .. } => {
            for id in answer.as_array().into_iter().flatten() {
                say::line(id);
            }
        }
        _ if answer.is_null() => {}
        _ => say::line(answer),
    }
}
