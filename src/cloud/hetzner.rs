//! Hetzner Cloud (<https://docs.hetzner.cloud/reference/cloud#server-metadata>).

use super::{Cloud, Field, Form, LINK_LOCAL, Request};

pub(super) static CLOUD: Cloud = Cloud {
    provider: "Hetzner",
    is_here: |firmware| firmware.is("sys_vendor", "Hetzner"),
    address: LINK_LOCAL,
    host: None,
    header: "",
    token: None,
    requests: &[
        Request {
            path: "/hetzner/v1/metadata",
            // YAML, of which only the outermost keys begin a line.
            form: Form::Lines(
                ": ",
                &[
                    ("instance-id", Field::InstanceId),
                    ("region", Field::Region),
                    ("availability-zone", Field::Zone),
                    ("local-ipv4", Field::LocalIpv4),
                    ("public-ipv4", Field::PublicIpv4),
                ],
            ),
            is_required: true,
        },
        // The first of the private networks, which `local-ipv4` is silent about.
        Request {
            path: "/hetzner/v1/metadata/private-networks",
            form: Form::Lines(": ", &[("- ip", Field::LocalIpv4)]),
            is_required: false,
        },
    ],
    settle: |_| {},
    notice: None,
};

#[cfg(test)]
mod tests {
    use super::super::test::{answer, labels, metadata};
    use super::*;
    use crate::cloud::Metadata;

    const SERVER: &str = "availability-zone: fsn1-dc14
hostname: web-1
instance-id: 42419283
local-ipv4: ''
network-config:
  config:
  - mac_address: 96:00:00:51:5f:1b
    name: eth0
    subnets:
    - ipv4: true
      type: dhcp
  version: 1
public-ipv4: 95.217.3.4
public-keys:
- ssh-ed25519 AAAA me@home
region: eu-central
vendor_data: |
  Content-Type: multipart/mixed; boundary=\"===\"
  instance-id: 1
  region: nowhere
";

    const NETWORKS: &str = "- ip: 10.0.0.2
  alias_ips: [10.0.0.3, 10.0.0.4]
  interface_num: 1
  mac_address: 86:00:00:2a:7d:e0
  network_id: 1234
  network: 10.0.0.0/8
- ip: 192.168.0.2
  alias_ips: []
";

    #[test]
    fn answers() {
        let networks = "/hetzner/v1/metadata/private-networks";
        let metadata = metadata(&CLOUD, &[("/hetzner/v1/metadata", SERVER), (networks, NETWORKS)]);
        assert_eq!(
            labels(&metadata),
            ["", "42419283", "", "", "eu-central", "fsn1-dc14", "", "10.0.0.2", "95.217.3.4"]
        );
        let mut none = Metadata::default();
        assert!(answer(&CLOUD, networks, b"", &mut none) && none == Metadata::default());
        assert!(!answer(&CLOUD, "/hetzner/v1/metadata", b"<html>: </html>\n", &mut none));
    }
}
