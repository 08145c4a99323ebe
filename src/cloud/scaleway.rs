//! Scaleway (<https://www.scaleway.com/en/docs/instances/how-to/use-cloud-init/>): lines of a shell's variables.

use std::net::Ipv4Addr;

use super::{Cloud, Field, Form, Metadata, Request};

pub(super) static CLOUD: Cloud = Cloud {
    provider: "Scaleway",
    is_here: |firmware| firmware.is("sys_vendor", "Scaleway"),
    address: Ipv4Addr::new(169, 254, 42, 42),
    host: None,
    header: "",
    token: None,
    requests: &[Request {
        path: "/conf",
        form: Form::Lines(
            "=",
            &[
                ("ID", Field::InstanceId),
                ("ORGANIZATION", Field::AccountId),
                ("COMMERCIAL_TYPE", Field::InstanceType),
                ("ZONE", Field::Zone),
                ("PRIVATE_IP", Field::LocalIpv4),
                ("PUBLIC_IP_ADDRESS", Field::PublicIpv4),
            ],
        ),
        is_required: true,
    }],
    settle: Metadata::set_region_of_zone,
    notice: None,
};

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
