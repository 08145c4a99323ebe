//! `container`, `pod`, `namespace` and `image`: whose a cgroup is.
//!
//! The texts are the labels of nodeprobe's own metrics, so that `* on (container_id) group_left` joins custom ones with them.
//! A cgroup of no container gives an empty text, which to Prometheus is no label.

use super::{Answer, Asks, Built, Decoder, Gives, Keeps, Names, Options, Spec, Takes, input};
use crate::containers::Named;
use crate::containers::hierarchies::Place;
use crate::programs::config;
use crate::sys::text::append;

/// The row of `container`.
pub static CONTAINER: Spec = Spec {
    name: "container",
    about: "the id of a v2 cgroup to the `container_id` of nodeprobe's own metrics, or nothing",
    ..row(|_, _| whose(|named| &named.id))
};

/// The row of `image`.
pub static IMAGE: Spec = Spec {
    name: "image",
    about: "the id of a v2 cgroup to the image of its container, or nothing",
    ..row(|_, _| whose(|named| &named.image))
};

/// The row of `namespace`.
pub static NAMESPACE: Spec = Spec {
    name: "namespace",
    about: "the id of a v2 cgroup to its Kubernetes namespace, or nothing",
    ..row(|_, _| whose(|named| namespace(&named.id)))
};

/// The row of `pod`.
pub static POD: Spec = Spec {
    name: "pod",
    about: "the id of a v2 cgroup to the name of its pod, or nothing; pods of cron jobs have no name that stays and give nothing",
    ..row(|_, _| whose(|named| pod(&named.id)))
};

/// What the four have in common.
const fn row(build: fn(&config::Decoder, Options) -> Built) -> Spec {
    Spec {
        name: "",
        about: "",
        takes: Takes::Decimal,
        gives: Gives::Text,
        keeps: Keeps::LastKnown,
        asks: Asks::Containers,
        build,
    }
}

/// A property of a container.
struct Whose {
    property: fn(&Named) -> &str,
}

#[allow(clippy::unnecessary_wraps)] // It is what `build` wants.
fn whose(property: fn(&Named) -> &str) -> Built {
    Ok(Box::new(Whose { property }))
}

impl Decoder for Whose {
    fn decode(&mut self, names: &mut Names<'_>, input: &[u8], out: &mut Vec<u8>) -> Result<Answer, String> {
        let id = input::unsigned(input)?;
        let containers = names.containers;
        let named = containers
            .of_cgroup(Place::V2, id)
            .and_then(|instance| containers.instance(instance)?.identity)
            .and_then(|identity| containers.identity(identity));
        let Some(named) = named else { return Ok(Answer::Unknown) };
        append(out, (self.property)(named).as_bytes());
        Ok(Answer::TextForNow)
    }
}

/// The namespace in `/k8s/NAMESPACE/POD/CONTAINER` and `/k8s-cronjob/NAMESPACE/NAME/CONTAINER`.
fn namespace(id: &str) -> &str {
    let rest = id.strip_prefix("/k8s/").or_else(|| id.strip_prefix("/k8s-cronjob/"));
    rest.and_then(|rest| rest.split_once('/')).map_or("", |(namespace, _)| namespace)
}

/// The pod in `/k8s/NAMESPACE/POD/CONTAINER`.
fn pod(id: &str) -> &str {
    let rest = id.strip_prefix("/k8s/").unwrap_or_default();
    rest.split('/').nth(1).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::decoders::test::Bed;

    #[test]
    fn parts_of_kubernetes_ids() {
        for (id, parts) in [
            ("/k8s/prod/web-0/nginx", ("prod", "web-0")),
            ("/k8s-cronjob/prod/backup/c", ("prod", "")),
            ("/docker/web", ("", "")),
            ("/k8s/", ("", "")),
            ("/k8s/prod", ("", "")),
            ("", ("", "")),
        ] {
            assert_eq!((namespace(id), pod(id)), parts, "{id}");
        }
    }

    #[test]
    fn cgroups_of_containers() {
        let mut bed = Bed::new();
        let docker = format!("/docker/{}", "0123456789abcdef".repeat(4));
        for (id, path) in [(5, "/system.slice/nginx.service"), (6, &*docker), (7, "/nobody")] {
            bed.containers.appeared(Place::V2, id, path, |_| None, 1);
        }
        bed.containers.appeared(Place::V2, 8, "/system.slice/nginx.service/child", |_| None, 1);
        bed.containers.settle(&bed.host, 1, &mut VecDeque::new());
        let mut container = |id: &str| bed.decode(&CONTAINER, id).unwrap();
        assert_eq!(container("5"), "/system.slice/nginx.service");
        assert_eq!(container("6"), "/docker/0123456789ab");
        assert_eq!(container("7"), "");
        assert_eq!(container("8"), "/system.slice/nginx.service");
        assert_eq!(container("99"), "");
        for spec in [&IMAGE, &NAMESPACE, &POD] {
            assert_eq!(bed.decode(spec, "5").unwrap(), "");
        }
        for spec in [&CONTAINER, &IMAGE, &NAMESPACE, &POD] {
            for bad in [&b""[..], b"-1", b"\xff", b"\x05\0\0\0\0\0\0\0"] {
                assert!(bed.decode(spec, bad).unwrap_err().ends_with(" is not a decimal number"));
            }
        }
    }
}
