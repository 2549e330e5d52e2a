//! The Docker Engine over its socket: what is asked of it, each within a time, and what its answers mean.
//!
//! Only containers with our label are listed, and only those are acted on. A connection is made anew when it broke:
//! the socket may have been replaced.

use super::plan::{Seen, State};
use super::wanted::Images;
use bollard::auth::DockerCredentials;
use bollard::errors::Error;
use bollard::models::{
    ContainerCreateBody, ContainerSummary, ContainerSummaryStateEnum, DeviceMapping, HostConfig, ImageSummary,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, CreateImageOptionsBuilder, EventsOptionsBuilder,
    ListContainersOptionsBuilder, ListImagesOptionsBuilder, LogsOptionsBuilder,
    RemoveContainerOptionsBuilder, RemoveImageOptionsBuilder, StopContainerOptionsBuilder,
};
use bollard::{API_DEFAULT_VERSION, Docker};
use config::Containers;
use futures_util::StreamExt;
use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::timeout;
use tracing::info;

/// One question.
const PATIENCE: Duration = Duration::from_secs(20);
/// A pull may take so long between two words of the engine.
const PULL: Duration = Duration::from_secs(300);
/// A container that is stopped the hard way has so many seconds before it is killed.
const LAST: i32 = 10;
/// What the labels of our containers begin with.
const DRONE: &str = "dronekeeper.drone";
const NAME: &str = "dronekeeper.name";
const SPEC: &str = "dronekeeper.spec";

/// Why the engine did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum EngineError {
    #[error("the Docker engine")]
    Engine(#[from] Error),
    #[error("the Docker engine did not answer within {0:?}")]
    Silent(Duration),
    #[error("image {0} is not there after it was pulled")]
    NoImage(String),
    #[error("`containers.registry_auth_file`: {0}")]
    Auth(String),
}

impl EngineError {
    /// Was the engine reached, and said nothing?
    pub fn is_silent(&self) -> bool {
        matches!(self, EngineError::Silent(_) | EngineError::Engine(Error::RequestTimeoutError))
    }

    /// Is it the engine itself, and not what was asked of it?
    pub fn is_down(&self) -> bool {
        match self {
            EngineError::Engine(Error::DockerResponseServerError { status_code, .. }) => *status_code == 503,
            EngineError::Engine(_) | EngineError::Silent(_) => true,
            EngineError::NoImage(_) | EngineError::Auth(_) => false,
        }
    }
}

/// The engine. Clones share its address.
#[derive(Clone, Debug)]
pub struct Engine {
    socket: String,
    drone: String,
    prefix: String,
}

/// What a container is made from.
#[derive(Clone, Debug)]
pub struct Spec(pub(super) ContainerCreateBody);

impl super::wanted::Recipe {
    /// What a container of this name is made from.
    pub(super) fn spec(&self, name: &str, settings: &Containers) -> Spec {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let short = host.split('.').next().unwrap_or_default().to_owned();
        let filled = |text: &str| {
            let count = settings.count.to_string();
            text.replace("{name}", name).replace("{host}", &host).replace("{count}", &count)
        };
        let devices = settings.devices.iter().filter(|device| device.exists()).map(|device| {
            let path = device.display().to_string();
            DeviceMapping {
                path_on_host: Some(path.clone()),
                path_in_container: Some(path),
                cgroup_permissions: Some("rwm".into()),
            }
        });
        let positive = |number: i64| (number > 0).then_some(number);
        let host_config = HostConfig {
            binds: Some(settings.volumes.iter().map(|volume| filled(volume)).collect()),
            devices: Some(devices.collect()),
            nano_cpus: positive((settings.cpus * 1e9) as i64),
            memory: positive(i64::try_from(settings.memory.0).unwrap_or(i64::MAX)),
            pids_limit: positive(settings.pids.into()),
            ..HostConfig::default()
        };
        Spec(ContainerCreateBody {
            image: Some(self.image.clone()),
            hostname: Some(format!("{short}--{name}")),
            env: Some(settings.env.iter().map(|(key, value)| format!("{key}={}", filled(value))).collect()),
            cmd: (!settings.command.is_empty()).then(|| settings.command.clone()),
            labels: Some(HashMap::from([
                (NAME.to_owned(), name.to_owned()),
                (SPEC.to_owned(), self.spec.clone()),
            ])),
            host_config: Some(host_config),
            ..ContainerCreateBody::default()
        })
    }
}

impl Engine {
    /// The engine of these settings; nothing is asked yet.
    pub fn new(settings: &Containers, drone: &str) -> Self {
        let socket = settings.engine.trim_start_matches("unix://").to_owned();
        Engine { socket, drone: drone.to_owned(), prefix: settings.name_prefix.clone() }
    }

    async fn docker(&self) -> Result<Docker, EngineError> {
        let docker = Docker::connect_with_unix(&self.socket, PATIENCE.as_secs(), API_DEFAULT_VERSION)?;
        within(docker.negotiate_version()).await
    }

    /// Our containers.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn look(&self) -> Result<Vec<Seen>, EngineError> {
        let ours = HashMap::from([("label".to_owned(), vec![format!("{DRONE}={}", self.drone)])]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&ours).build();
        let listed = within(self.docker().await?.list_containers(Some(options))).await?;
        Ok(listed.into_iter().filter_map(seen).collect())
    }

    /// Waits for something to happen to a container; `true` when something did.
    ///
    /// # Errors
    /// When the address is none.
    pub fn events(&self) -> Result<impl Future<Output = bool> + Send + 'static, EngineError> {
        let docker = Docker::connect_with_unix(&self.socket, 24 * 3600, API_DEFAULT_VERSION)?;
        let kinds = HashMap::from([
            ("type".to_owned(), vec!["container".to_owned()]),
            (
                "event".to_owned(),
                ["die", "pause", "stop", "kill", "destroy", "oom"].map(str::to_owned).to_vec(),
            ),
            ("label".to_owned(), vec![format!("{DRONE}={}", self.drone)]),
        ]);
        let options = EventsOptionsBuilder::new().filters(&kinds).build();
        Ok(async move {
            let Ok(docker) = docker.negotiate_version().await else { return false };
            let first = docker.events(Some(options)).next().await;
            matches!(first, Some(Ok(_)))
        })
    }

    /// The engine's name for an image; `None`: it is not there.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn image_id(&self, image: &str) -> Result<Option<String>, EngineError> {
        match within(self.docker().await?.inspect_image(image)).await {
            Ok(found) => Ok(found.id),
            Err(EngineError::Engine(Error::DockerResponseServerError { status_code: 404, .. })) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Pulls an image; what the engine says of it is logged now and then.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn pull(&self, image: &str, settings: &Containers) -> Result<(), EngineError> {
        let credentials = credentials(image, settings)?;
        let options = CreateImageOptionsBuilder::new().from_image(image).build();
        let docker = self.docker().await?;
        let mut words = docker.create_image(Some(options), None, credentials);
        let mut said = tokio::time::Instant::now();
        while let Some(word) = timeout(PULL, words.next()).await.map_err(|_| EngineError::Silent(PULL))? {
            let word = word?;
            if said.elapsed() > Duration::from_secs(5) {
                said = tokio::time::Instant::now();
                info!(image, layer = word.id.as_deref(), status = word.status.as_deref(), "pulling");
            }
        }
        Ok(())
    }

    /// Makes a container and starts it. One of that name that is not ours stays, and is the error.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn create(&self, name: &str, Spec(mut body): Spec) -> Result<(), EngineError> {
        body.labels.get_or_insert_default().insert(DRONE.to_owned(), self.drone.clone());
        let options = CreateContainerOptionsBuilder::new().name(&format!("{}{name}", self.prefix)).build();
        let made = within(self.docker().await?.create_container(Some(options), body)).await?;
        self.start(&made.id).await
    }

    /// Starts one that was made.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn start(&self, id: &str) -> Result<(), EngineError> {
        within(self.docker().await?.start_container(id, None)).await
    }

    /// Lets one that was paused go on.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn unpause(&self, id: &str) -> Result<(), EngineError> {
        within(self.docker().await?.unpause_container(id)).await
    }

    /// Removes one that does not run.
    ///
    /// # Errors
    /// [`EngineError`]; one that is gone already is no error.
    pub async fn remove(&self, id: &str) -> Result<(), EngineError> {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        match within(self.docker().await?.remove_container(id, Some(options))).await {
            Err(EngineError::Engine(Error::DockerResponseServerError { status_code: 404 | 409, .. })) => {
                Ok(())
            }
            done => done,
        }
    }

    /// Stops one, kills it when it does not, and removes it when even that fails.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn stop(&self, id: &str) -> Result<(), EngineError> {
        let options = StopContainerOptionsBuilder::new().t(LAST).build();
        match within(self.docker().await?.stop_container(id, Some(options))).await {
            Ok(()) => Ok(()),
            Err(_) => self.remove(id).await,
        }
    }

    /// The process number, on this host, of a container's first process.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn main_pid(&self, id: &str) -> Result<u32, EngineError> {
        let found = within(self.docker().await?.inspect_container(id, None)).await?;
        let pid = found.state.and_then(|state| state.pid).and_then(|pid| u32::try_from(pid).ok());
        Ok(pid.unwrap_or_default())
    }

    /// The exit status of a container that ended, and the last that it said; for people.
    pub async fn last_words(&self, id: &str) -> (Option<i64>, String) {
        let Ok(docker) = self.docker().await else { return (None, String::new()) };
        let state = within(docker.inspect_container(id, None)).await.ok().and_then(|found| found.state);
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).tail("3").build();
        let mut words = String::new();
        let mut lines = docker.logs(id, Some(options));
        while let Ok(Some(Ok(line))) = timeout(Duration::from_secs(2), lines.next()).await {
            words.extend(line.to_string().chars().take(300));
        }
        (state.and_then(|state| state.exit_code), words.trim().to_owned())
    }

    /// Removes the images of our repository that are not wanted and that nothing uses; others are never touched.
    pub async fn remove_old_images(&self, image: &str, wanted: &Images) {
        let repository = repository(image);
        let Ok(docker) = self.docker().await else { return };
        let options = ListImagesOptionsBuilder::new().build();
        let Ok(images) = within(docker.list_images(Some(options))).await else { return };
        let Ok(all) =
            within(docker.list_containers(Some(ListContainersOptionsBuilder::new().all(true).build()))).await
        else {
            return;
        };
        let used: Vec<String> = all.into_iter().filter_map(|container| container.image_id).collect();
        for name in outdated(images, wanted, &used, repository) {
            let options = RemoveImageOptionsBuilder::new().build();
            if within(docker.remove_image(&name, Some(options), None)).await.is_ok() {
                info!(image = %name, "old image removed");
            }
        }
    }
}

/// The names of the images of this repository, and of it alone, that are older than the wanted one and not used.
fn outdated(images: Vec<ImageSummary>, wanted: &Images, used: &[String], repository: &str) -> Vec<String> {
    // A newer one is what somebody brought in advance.
    let Some(made) = images.iter().find(|image| image.id == wanted.main).map(|image| image.created) else {
        return Vec::new();
    };
    let is_wanted = |id: &String| used.contains(id) || wanted.canary.as_ref() == Some(id);
    let old = images.into_iter().filter(|image| image.created < made && !is_wanted(&image.id));
    let names = old.filter_map(|image| {
        let all: Vec<&String> = image.repo_tags.iter().chain(&image.repo_digests).collect();
        let known: Vec<&&String> = all.iter().filter(|name| !name.contains("<none>")).collect();
        let ours = !known.is_empty() && known.iter().all(|name| self::repository(name) == repository);
        ours.then(
            || if image.repo_tags.is_empty() { vec![image.id.clone()] } else { image.repo_tags.clone() },
        )
    });
    names.flatten().collect()
}

/// `registry:5000/name` of `registry:5000/name:tag` and `registry:5000/name@sha256:…`.
fn repository(image: &str) -> &str {
    let name = image.split('@').next().unwrap_or(image);
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}

/// What the registry wants to know: `user:password`, or a Docker config file.
fn credentials(image: &str, settings: &Containers) -> Result<Option<DockerCredentials>, EngineError> {
    let Some(path) = &settings.registry_auth_file else { return Ok(None) };
    let failed = |why: String| EngineError::Auth(format!("{}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    let registry = repository(image).split('/').next().unwrap_or_default().to_owned();
    let plain =
        |pair: &str| pair.split_once(':').map(|(user, password)| (user.to_owned(), password.to_owned()));
    let pair = match serde_json::from_str::<serde_json::Value>(&text) {
        Ok(value) => {
            let auth =
                value.get("auths").and_then(|auths| auths.get(&registry)).and_then(|own| own.get("auth"));
            let auth = auth.and_then(serde_json::Value::as_str).map(|auth| {
                use base64::Engine as _;
                base64::engine::general_purpose::STANDARD.decode(auth).unwrap_or_default()
            });
            auth.and_then(|auth| plain(String::from_utf8_lossy(&auth).trim()))
        }
        Err(_) => plain(text.trim()),
    };
    let (user, password) = pair.ok_or_else(|| failed(format!("says nothing of {registry}")))?;
    Ok(Some(DockerCredentials {
        username: Some(user),
        password: Some(password),
        serveraddress: Some(registry),
        ..DockerCredentials::default()
    }))
}

/// One of our containers, as the engine lists it; what it does not say makes it none.
fn seen(container: ContainerSummary) -> Option<Seen> {
    let labels = container.labels.unwrap_or_default();
    let state = match container.state? {
        ContainerSummaryStateEnum::CREATED => State::Created,
        ContainerSummaryStateEnum::RUNNING => State::Running,
        ContainerSummaryStateEnum::PAUSED => State::Paused,
        ContainerSummaryStateEnum::EXITED => State::Exited,
        ContainerSummaryStateEnum::DEAD => State::Dead,
        _ => State::Between,
    };
    let created = u64::try_from(container.created.unwrap_or_default()).unwrap_or_default();
    Some(Seen {
        id: container.id?,
        name: labels.get(NAME)?.clone(),
        state,
        created: created_at(created),
        spec: labels.get(SPEC).cloned().unwrap_or_default(),
    })
}

fn created_at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

async fn within<T>(asked: impl Future<Output = Result<T, Error>>) -> Result<T, EngineError> {
    timeout(PATIENCE, asked).await.map_err(|_| EngineError::Silent(PATIENCE))?.map_err(EngineError::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_a_name_without_tag_and_digest() {
        for (image, expected) in [
            ("swarm_docker:latest", "swarm_docker"),
            ("registry:5000/a/b:1", "registry:5000/a/b"),
            ("registry:5000/a/b", "registry:5000/a/b"),
            ("registry/a@sha256:12", "registry/a"),
            ("registry:5000/a:1@sha256:12", "registry:5000/a"),
        ] {
            assert_eq!(repository(image), expected);
        }
    }
}
