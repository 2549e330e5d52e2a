//! `check`: is the configuration valid, and does what it names answer?

use crate::house;
use crate::say;
use crate::status::Status;
use actors::launcher::engine::{Engine, EngineError};
use actors::link::Link;
use actors::mailer::post;
use actors::shown::chain;
use config::Config;
use std::path::Path;
use std::time::Duration;

/// Validates; with `connect`, also asks the store, the hub, the mail server and the Docker engine.
pub fn check(config: &Config, file: Option<&Path>, connect: bool) -> Status {
    let name = file.map_or("the embedded defaults".into(), |file| file.display().to_string());
    let mut failed = false;
    let mut say = |what: &str, done: Result<String, String>| match done {
        Ok(how) => say::line(format_args!("{what:<12} ok     {how}")),
        Err(why) => {
            failed = true;
            say::line(format_args!("{what:<12} FAILED {why}"));
        }
    };
    say("config", Ok(name));
    let results = std::fs::read_dir(&config.results.dir).map(|_| config.results.dir.display().to_string());
    let hint = |error: std::io::Error| format!("{}: {error}; set results.dir", config.results.dir.display());
    say("results", results.map_err(hint));
    if connect {
        say("store", ask(config));
        if !config.hub.url.is_empty() {
            say("hub", hub(config));
        }
        if !config.mail.smtp.is_empty() {
            say("mail", greet(config));
        }
        if !config.containers.image.is_empty() {
            say("containers", engine(config));
        }
    }
    if failed { Status::Config } else { Status::Ok }
}

fn ask(config: &Config) -> Result<String, String> {
    let store = house::store(config).map_err(|error| chain(&error))?;
    let io = house::ground::runtime().map_err(|error| chain(&error))?;
    let prefix = config.store.prefix.trim_matches('/').to_owned();
    let probe = async { tokio::time::timeout(Duration::from_secs(60), store.probe(&prefix)).await };
    match io.block_on(probe) {
        Ok(Ok(found)) => {
            let proof = if found.answers_checksum { "its own checksums" } else { "reading back" };
            Ok(format!("{}: written, listed, read back; objects are proven by {proof}", store.name()))
        }
        Ok(Err(error)) => Err(chain(&error)),
        Err(_) => Err(format!("{} does not answer within a minute", store.name())),
    }
}

/// Asks the hub for a job that there is not; whatever understands that is a hub.
fn hub(config: &Config) -> Result<String, String> {
    let link = Link::open(&config.hub, config.limits.hub_requests_per_second, &config.drone.name);
    let link = link.map_err(|error| chain(&error))?.ok_or("no address")?;
    let io = house::ground::runtime().map_err(|error| chain(&error))?;
    let nothing = serde_json::json!({ "id__in": [0] });
    let asked = link.call::<Vec<serde_json::Value>>("get_jobs", &nothing, Duration::from_secs(30));
    match io.block_on(asked) {
        Ok(_) => Ok(format!("{}: answers", link.urls().join(", "))),
        Err(error) => Err(format!("{}; is the hub up, are hub.url and hub.token_file right?", chain(&error))),
    }
}

/// Goes as far with the mail server as a mail would, and sends none.
fn greet(config: &Config) -> Result<String, String> {
    let io = house::ground::runtime().map_err(|error| chain(&error))?;
    match io.block_on(post::probe(&config.mail, &config.drone.name)) {
        Ok(server) => Ok(format!("{server}: answers; on-call is {}", config.mail.to.join(", "))),
        Err(error) => Err(post::told(&error)),
    }
}

/// Asks the engine for the containers of this drone, and for their image.
fn engine(config: &Config) -> Result<String, String> {
    let (engine, settings) = (Engine::new(&config.containers, &config.drone.name), &config.containers);
    let io = house::ground::runtime().map_err(|error| chain(&error))?;
    let asked = io.block_on(async {
        Ok::<_, EngineError>((engine.look().await?, engine.image_id(&settings.image).await?))
    });
    match asked {
        Ok((seen, image)) => {
            let image = image.map_or("to be pulled", |_| "there");
            let (socket, count) = (&settings.engine, seen.len());
            Ok(format!(
                "{socket}: answers; {count} containers of this drone, image {} is {image}",
                settings.image
            ))
        }
        Err(error) => Err(format!("{}: {}; is dockerd up?", settings.engine, chain(&error))),
    }
}
