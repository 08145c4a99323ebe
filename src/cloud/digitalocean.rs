//! DigitalOcean (<https://docs.digitalocean.com/reference/api/metadata/>).

use super::{Cloud, Field, Form, LINK_LOCAL, Metadata, Request};

pub(super) static CLOUD: Cloud = Cloud {
    provider: "DigitalOcean",
    is_here: |firmware| {
        firmware.is("sys_vendor", "DigitalOcean") || firmware.is("board_vendor", "DigitalOcean")
    },
    address: LINK_LOCAL,
    host: None,
    header: "",
    token: None,
    // One by one: the whole document has the user's data in it.
    requests: &[
        Request { path: "/metadata/v1/id", form: Form::Word(Field::InstanceId), is_required: true },
        Request { path: "/metadata/v1/region", form: Form::Word(Field::Region), is_required: false },
        Request {
            path: "/metadata/v1/interfaces/private/0/ipv4/address",
            form: Form::Word(Field::LocalIpv4),
            is_required: false,
        },
        Request {
            path: "/metadata/v1/interfaces/public/0/ipv4/address",
            form: Form::Word(Field::PublicIpv4),
            is_required: false,
        },
    ],
    settle,
    notice: None,
};

/// A region is one datacenter.
fn settle(metadata: &mut Metadata) {
    let region = metadata.get(Field::Region).to_owned();
    metadata.set(Field::Zone, &region);
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
