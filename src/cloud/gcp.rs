//! Google Compute Engine (<https://cloud.google.com/compute/docs/metadata/predefined-metadata-keys>).

use std::time::Duration;

use super::document::{take_address, take_word, word};
use super::{Cloud, LINK_LOCAL, Metadata, Notice, Request, region_of_zone};

pub(super) static CLOUD: Cloud = Cloud {
    provider: "GCP",
    // Laptops of this vendor have other names.
    is_here: |firmware| matches!(&*firmware.product_name, "Google" | "Google Compute Engine"),
    address: LINK_LOCAL,
    host: None,
    header: "Metadata-Flavor: Google",
    token: None,
    // One by one: the whole document has start-up scripts and keys in it.
    requests: &[
        Request {
            path: "/computeMetadata/v1/instance/id",
            take: |body, metadata| take_word(&mut metadata.instance_id, body),
            is_required: true,
        },
        Request {
            path: "/computeMetadata/v1/project/project-id",
            take: |body, metadata| take_word(&mut metadata.account_id, body),
            is_required: false,
        },
        Request {
            path: "/computeMetadata/v1/instance/machine-type",
            take: |body, metadata| take_last_part(&mut metadata.instance_type, body),
            is_required: false,
        },
        Request { path: "/computeMetadata/v1/instance/zone", take: take_zone, is_required: false },
        Request {
            path: "/computeMetadata/v1/instance/scheduling/preemptible",
            take: take_life_cycle,
            is_required: false,
        },
        Request {
            path: "/computeMetadata/v1/instance/network-interfaces/0/ip",
            take: |body, metadata| take_address(&mut metadata.local_ipv4, body),
            is_required: false,
        },
        Request {
            path: "/computeMetadata/v1/instance/network-interfaces/0/access-configs/0/external-ip",
            take: |body, metadata| take_address(&mut metadata.public_ipv4, body),
            is_required: false,
        },
    ],
    // Thirty seconds in front of the end.
    notice: Some(Notice {
        path: "/computeMetadata/v1/instance/preempted",
        life_cycle: "preemptible",
        interval: Duration::from_secs(5),
        parse: |body, _| truth(body),
    }),
};

/// `TRUE` or `FALSE`, as the service writes them.
fn truth(body: &[u8]) -> Option<bool> {
    let word = word(body)?;
    let is = |wanted: &str| word.eq_ignore_ascii_case(wanted);
    if is("true") { Some(true) } else { is("false").then_some(false) }
}

/// `projects/NUMBER/KIND/NAME`
fn last_part(body: &[u8]) -> Option<&str> {
    let mut parts = word(body)?.split('/').skip(3);
    parts.next().filter(|part| !part.is_empty() && parts.next().is_none())
}

fn take_last_part(field: &mut String, body: &[u8]) -> bool {
    last_part(body).map(|part| part.clone_into(field)).is_some()
}

fn take_zone(body: &[u8], metadata: &mut Metadata) -> bool {
    let is_taken = take_last_part(&mut metadata.zone, body);
    region_of_zone(&metadata.zone).clone_into(&mut metadata.region);
    is_taken
}

fn take_life_cycle(body: &[u8], metadata: &mut Metadata) -> bool {
    let Some(is_preemptible) = truth(body) else { return false };
    let word = if is_preemptible { "preemptible" } else { "on-demand" };
    word.clone_into(&mut metadata.life_cycle);
    true
}

#[cfg(test)]
mod tests {
    use super::super::test::{labels, metadata};
    use super::*;

    #[test]
    fn answers() {
        let interfaces = "/computeMetadata/v1/instance/network-interfaces/0";
        let metadata = metadata(
            &CLOUD,
            &[
                ("/computeMetadata/v1/instance/id", "4520031799277581759"),
                ("/computeMetadata/v1/project/project-id", "my-project-123"),
                ("/computeMetadata/v1/instance/machine-type", "projects/739419398126/machineTypes/e2-medium"),
                ("/computeMetadata/v1/instance/zone", "projects/739419398126/zones/us-central1-a"),
                ("/computeMetadata/v1/instance/scheduling/preemptible", "TRUE"),
                (&format!("{interfaces}/ip"), "10.128.0.2"),
                (&format!("{interfaces}/access-configs/0/external-ip"), "34.1.2.3"),
            ],
        );
        assert_eq!(
            labels(&metadata),
            [
                "my-project-123",
                "4520031799277581759",
                "e2-medium",
                "preemptible",
                "us-central1",
                "us-central1-a",
                "",
                "10.128.0.2",
                "34.1.2.3"
            ]
        );
    }

    #[test]
    fn what_makes_no_sense() {
        let mut metadata = Metadata::default();
        for bad in ["", "e2-medium", "projects/1/zones/", "projects/1/zones/a/b"] {
            assert!(!take_zone(bad.as_bytes(), &mut metadata), "{bad}");
        }
        assert!(take_life_cycle(b"FALSE\n", &mut metadata) && !take_life_cycle(b"maybe", &mut metadata));
        assert_eq!(metadata, Metadata { life_cycle: "on-demand".into(), ..Metadata::default() });
        assert_eq!([truth(b"TRUE"), truth(b"FALSE"), truth(b"<html>")], [Some(true), Some(false), None]);
    }
}
