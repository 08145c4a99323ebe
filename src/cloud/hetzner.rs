//! Hetzner Cloud (<https://docs.hetzner.cloud/reference/cloud#server-metadata>).

use super::document::{take_address, take_word};
use super::{Cloud, LINK_LOCAL, Metadata, Request};

pub(super) static CLOUD: Cloud = Cloud {
    provider: "Hetzner",
    is_here: |firmware| firmware.sys_vendor == "Hetzner",
    address: LINK_LOCAL,
    host: None,
    header: "",
    token: None,
    requests: &[
        Request { path: "/hetzner/v1/metadata", take: take_server, is_required: true },
        Request { path: "/hetzner/v1/metadata/private-networks", take: take_networks, is_required: false },
    ],
    notice: None,
};

/// Keys and values of YAML lines at the outermost level. Scalars of several lines, lists and mappings are indented or begin
/// with a dash, and none of them is looked at.
fn lines(body: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let lines = body.split(|&byte| byte == b'\n');
    lines.filter_map(|line| {
        let colon = line.windows(2).position(|two| two == b": ")?;
        let (key, value) = line.split_at_checked(colon)?;
        let value = value.strip_prefix(b": ").unwrap_or_default().trim_ascii();
        let unquoted =
            [b'\'', b'"'].into_iter().find_map(|quote| value.strip_prefix(&[quote])?.strip_suffix(&[quote]));
        Some((key, unquoted.unwrap_or(value)))
    })
}

fn take_server(body: &[u8], metadata: &mut Metadata) -> bool {
    for (key, value) in lines(body) {
        match key {
            b"instance-id" => take_word(&mut metadata.instance_id, value),
            b"region" => take_word(&mut metadata.region, value),
            b"availability-zone" => take_word(&mut metadata.zone, value),
            b"local-ipv4" => take_address(&mut metadata.local_ipv4, value),
            b"public-ipv4" => take_address(&mut metadata.public_ipv4, value),
            _ => false,
        };
    }
    !metadata.instance_id.is_empty()
}

/// The address in the first of the private networks, which `local-ipv4` is silent about.
fn take_networks(body: &[u8], metadata: &mut Metadata) -> bool {
    let first = lines(body).find(|(key, _)| *key == b"- ip");
    match first {
        Some((_, value)) if metadata.local_ipv4.is_empty() => take_address(&mut metadata.local_ipv4, value),
        // None is an empty list.
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::super::test::{answer, labels, metadata};
    use super::*;

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
