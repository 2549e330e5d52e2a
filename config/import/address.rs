//! Addresses as Autotest has them, made into ours.

/// URL and prefix of `gs://bucket/prefix/`, or `None` if it is no such address.
pub(super) fn bucket(text: &str) -> Option<(String, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let sound = ["gs", "s3"].contains(&scheme) && is_host(bucket);
    sound.then(|| (format!("{scheme}://{bucket}"), prefix.trim_matches('/')))
}

/// Where an AFE is asked. As in the original, `http://` goes before a host that names no scheme.
pub(super) fn rpc(host: &str) -> Option<String> {
    let (scheme, rest) = host.split_once("://").unwrap_or(("http", host));
    let rest = rest.trim_end_matches('/');
    let sound = ["http", "https"].contains(&scheme) && is_host(rest);
    sound.then(|| format!("{scheme}://{rest}/afe/server/noauth/rpc/"))
}

/// The mail server; without one, as in the original, that of the machine itself, where TLS would hide nothing.
pub(super) fn smtp(server: Option<&str>, port: Option<&str>) -> Option<String> {
    let (host, end) = server.map_or(("localhost", "?tls=none"), |server| (server, ""));
    let scheme = if port == Some("465") { "smtps" } else { "smtp" };
    let port = port.map_or(String::new(), |port| format!(":{port}"));
    (is_host(host) && is_host(&format!("x{port}"))).then(|| format!("{scheme}://{host}{port}{end}"))
}

/// A host's or a bucket's name, with a port or without: nothing that means something else in a URL.
pub(super) fn is_host(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || ".-_:[]".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_may_have_a_path_and_a_slash_at_its_end() {
        assert_eq!(bucket("gs://results"), Some(("gs://results".into(), "")));
        assert_eq!(bucket("gs://results/"), Some(("gs://results".into(), "")));
        assert_eq!(bucket("gs://results/lab-7/all/"), Some(("gs://results".into(), "lab-7/all")));
        for none in ["results", "gs://", "gs:///x", "gs://k:s@b", "gs://b?x", "ftp://b/x", "/srv/results"] {
            assert_eq!(bucket(none), None, "{none}");
        }
    }

    #[test]
    fn a_server_may_be_named_with_its_scheme() {
        assert_eq!(rpc("cautotest").as_deref(), Some("http://cautotest/afe/server/noauth/rpc/"));
        assert_eq!(rpc("https://afe:8443/").as_deref(), Some("https://afe:8443/afe/server/noauth/rpc/"));
        for none in ["", "http://", "afe/web", "u:p@afe", "ftp://afe", "afe rpc", "afe#"] {
            assert_eq!(rpc(none), None, "{none}");
        }
    }

    #[test]
    fn mails_go_through_the_machine_itself_unless_a_server_is_named() {
        assert_eq!(smtp(None, None).as_deref(), Some("smtp://localhost?tls=none"));
        assert_eq!(smtp(Some("mail"), Some("587")).as_deref(), Some("smtp://mail:587"));
        assert_eq!(smtp(Some("mail"), Some("465")).as_deref(), Some("smtps://mail:465"));
        assert_eq!((smtp(Some("u:p@mail"), None), smtp(Some("mail"), Some("2/5"))), (None, None));
    }
}
