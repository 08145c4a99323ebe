//! Google Compute Engine (<https://cloud.google.com/compute/docs/metadata/predefined-metadata-keys>).

use std::time::Duration;

use super::document::word;
use super::{Cloud, Field, Form, LINK_LOCAL, Metadata, Notice, Request};

pub(super) static CLOUD: Cloud = Cloud {
    provider: "GCP",
    // Laptops of this vendor have other names.
    is_here: |firmware| matches!(&*firmware.dmi("product_name"), "Google" | "Google Compute Engine"),
    address: LINK_LOCAL,
    host: None,
    header: "Metadata-Flavor: Google",
    token: None,
    // One by one: the whole document has start-up scripts and keys in it.
    requests: &[
        Request {
            path: "/computeMetadata/v1/instance/id",
            form: Form::Word(Field::InstanceId),
            is_required: true,
        },
        Request {
            path: "/computeMetadata/v1/project/project-id",
            form: Form::Word(Field::AccountId),
            is_required: false,
        },
        Request {
            path: "/computeMetadata/v1/instance/machine-type",
            form: Form::Word(Field::InstanceType),
            is_required: false,
        },
        Request {
            path: "/computeMetadata/v1/instance/zone",
            form: Form::Word(Field::Zone),
            is_required: false,
        },
        Request {
            path: "/computeMetadata/v1/instance/scheduling/preemptible",
            form: Form::Word(Field::LifeCycle),
            is_required: false,
        },
        Request {
            path: "/computeMetadata/v1/instance/network-interfaces/0/ip",
            form: Form::Word(Field::LocalIpv4),
            is_required: false,
        },
        Request {
            path: "/computeMetadata/v1/instance/network-interfaces/0/access-configs/0/external-ip",
            form: Form::Word(Field::PublicIpv4),
            is_required: false,
        },
    ],
    settle,
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

fn settle(metadata: &mut Metadata) {
    // `projects/NUMBER/KIND/NAME`
    for field in [Field::InstanceType, Field::Zone] {
        if let Some((_, name)) = metadata.get(field).rsplit_once('/') {
            let name = name.to_owned();
            metadata.set(field, &name);
        }
    }
    metadata.set_region_of_zone();
    match truth(metadata.get(Field::LifeCycle).as_bytes()) {
        Some(true) => metadata.set(Field::LifeCycle, "preemptible"),
        Some(false) => metadata.set(Field::LifeCycle, "on-demand"),
        None => {}
    }
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
    fn notices() {
        assert_eq!([truth(b"TRUE"), truth(b"FALSE"), truth(b"<html>")], [Some(true), Some(false), None]);
    }
}
