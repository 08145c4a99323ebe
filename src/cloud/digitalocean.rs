//! DigitalOcean (<https://docs.digitalocean.com/reference/api/metadata/>).

use super::document::{take_address, take_word};
use super::{Cloud, LINK_LOCAL, Metadata, Request};

pub(super) static CLOUD: Cloud = Cloud {
    provider: "DigitalOcean",
    is_here: |firmware| {
        [&firmware.sys_vendor, &firmware.board_vendor].into_iter().any(|vendor| vendor == "DigitalOcean")
    },
    address: LINK_LOCAL,
    host: None,
    header: "",
    token: None,
    // One by one: the whole document has the user's data in it.
    requests: &[
        Request {
            path: "/metadata/v1/id",
            take: |body, metadata| take_word(&mut metadata.instance_id, body),
            is_required: true,
        },
        Request { path: "/metadata/v1/region", take: take_region, is_required: false },
        Request {
            path: "/metadata/v1/interfaces/private/0/ipv4/address",
            take: |body, metadata| take_address(&mut metadata.local_ipv4, body),
            is_required: false,
        },
        Request {
            path: "/metadata/v1/interfaces/public/0/ipv4/address",
            take: |body, metadata| take_address(&mut metadata.public_ipv4, body),
            is_required: false,
        },
    ],
    notice: None,
};

/// A region is one datacenter.
fn take_region(body: &[u8], metadata: &mut Metadata) -> bool {
    take_word(&mut metadata.region, body) && take_word(&mut metadata.zone, body)
}

#[cfg(test)]
mod tests {
    use super::super::test::{labels, metadata};
    use super::*;

    #[test]
    fn answers() {
        let metadata = metadata(
            &CLOUD,
            &[
                ("/metadata/v1/id", "2756294"),
                ("/metadata/v1/region", "nyc3\n"),
                ("/metadata/v1/interfaces/private/0/ipv4/address", "10.132.255.113"),
                ("/metadata/v1/interfaces/public/0/ipv4/address", "104.131.20.105"),
            ],
        );
        assert_eq!(
            labels(&metadata),
            ["", "2756294", "", "", "nyc3", "nyc3", "", "10.132.255.113", "104.131.20.105"]
        );
    }
}
