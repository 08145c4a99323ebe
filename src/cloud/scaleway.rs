//! Scaleway (<https://www.scaleway.com/en/docs/instances/how-to/use-cloud-init/>): lines of a shell's variables.

use std::net::Ipv4Addr;

use super::document::{take_address, take_word};
use super::{Cloud, Metadata, Request, region_of_zone};

pub(super) static CLOUD: Cloud = Cloud {
    provider: "Scaleway",
    is_here: |firmware| firmware.sys_vendor == "Scaleway",
    address: Ipv4Addr::new(169, 254, 42, 42),
    host: None,
    header: "",
    token: None,
    requests: &[Request { path: "/conf", take: take_conf, is_required: true }],
    notice: None,
};

fn take_conf(body: &[u8], metadata: &mut Metadata) -> bool {
    for line in body.split(|&byte| byte == b'\n') {
        let mut parts = line.splitn(2, |&byte| byte == b'=');
        let (Some(key), Some(value)) = (parts.next(), parts.next()) else { continue };
        let value = value.trim_ascii();
        let unquoted =
            [b'\'', b'"'].into_iter().find_map(|quote| value.strip_prefix(&[quote])?.strip_suffix(&[quote]));
        let value = unquoted.unwrap_or(value);
        match key {
            b"ID" => take_word(&mut metadata.instance_id, value),
            b"ORGANIZATION" => take_word(&mut metadata.account_id, value),
            b"COMMERCIAL_TYPE" => take_word(&mut metadata.instance_type, value),
            b"ZONE" => take_word(&mut metadata.zone, value),
            b"PRIVATE_IP" => take_address(&mut metadata.local_ipv4, value),
            b"PUBLIC_IP_ADDRESS" => take_address(&mut metadata.public_ipv4, value),
            _ => false,
        };
    }
    region_of_zone(&metadata.zone).clone_into(&mut metadata.region);
    !metadata.instance_id.is_empty()
}

#[cfg(test)]
mod tests {
    use super::super::test::{answer, labels, metadata};
    use super::*;

    const CONF: &str = "ID=7f1b8c7e-1111-4a9b-9f0e-0d6c2f2b9a01
NAME=web-1
COMMERCIAL_TYPE=DEV1-S
HOSTNAME=web-1
ORGANIZATION=ecc1c86a-eabb-43a7-9c0a-77e371753c0a
PROJECT=ecc1c86a-eabb-43a7-9c0a-77e371753c0a
STATE_DETAIL=booted
TAGS=0
PUBLIC_IP='DYNAMIC ID ADDRESS'
PUBLIC_IP_ADDRESS=51.15.1.2
PRIVATE_IP=10.68.1.2
LOCATION='ZONE_ID PLATFORM_ID'
LOCATION_ZONE_ID=par1
ZONE='fr-par-1'
";

    #[test]
    fn answers() {
        let metadata = metadata(&CLOUD, &[("/conf", CONF)]);
        assert_eq!(
            labels(&metadata),
            [
                "ecc1c86a-eabb-43a7-9c0a-77e371753c0a",
                "7f1b8c7e-1111-4a9b-9f0e-0d6c2f2b9a01",
                "DEV1-S",
                "",
                "fr-par",
                "fr-par-1",
                "",
                "10.68.1.2",
                "51.15.1.2"
            ]
        );
        assert!(!answer(&CLOUD, "/conf", b"ZONE=fr-par-1\nID=\n", &mut Metadata::default()));
    }
}
