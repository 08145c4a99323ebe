//! Alibaba Cloud ECS, with a token or, in its normal mode, without
//! (<https://www.alibabacloud.com/help/en/ecs/user-guide/view-instance-metadata>).

use std::net::Ipv4Addr;

use super::document::word;
use super::{Cloud, Field, Form, Request, Token};

pub(super) static CLOUD: Cloud = Cloud {
    provider: "Alibaba",
    is_here: |firmware| firmware.is("sys_vendor", "Alibaba Cloud"),
    address: Ipv4Addr::new(100, 100, 100, 200),
    host: None,
    header: "",
    token: Some(Token {
        path: "/latest/api/token",
        header: "X-aliyun-ecs-metadata-token-ttl-seconds: 21600",
        body: "",
        parse: |body| word(body).map(str::to_owned),
        carrier: "X-aliyun-ecs-metadata-token: ",
        is_required: false,
    }),
    requests: &[
        Request {
            path: "/latest/meta-data/instance-id",
            form: Form::Word(Field::InstanceId),
            is_required: true,
        },
        Request {
            path: "/latest/meta-data/owner-account-id",
            form: Form::Word(Field::AccountId),
            is_required: false,
        },
        Request {
            path: "/latest/meta-data/instance/instance-type",
            form: Form::Word(Field::InstanceType),
            is_required: false,
        },
        Request { path: "/latest/meta-data/region-id", form: Form::Word(Field::Region), is_required: false },
        Request { path: "/latest/meta-data/zone-id", form: Form::Word(Field::Zone), is_required: false },
        Request {
            path: "/latest/meta-data/private-ipv4",
            form: Form::Word(Field::LocalIpv4),
            is_required: false,
        },
        // An elastic address, or one of the instance's own.
        Request { path: "/latest/meta-data/eipv4", form: Form::Word(Field::PublicIpv4), is_required: false },
        Request {
            path: "/latest/meta-data/public-ipv4",
            form: Form::Word(Field::PublicIpv4),
            is_required: false,
        },
    ],
    settle: |_| {},
    // Spot instances have `instance/spot/termination-time`, but nothing says which instances those are.
    notice: None,
};

#[cfg(test)]
mod tests {
    use super::super::test::{labels, metadata};
    use super::*;

    #[test]
    fn answers() {
        let metadata = metadata(
            &CLOUD,
            &[
                ("/latest/meta-data/instance-id", "i-bp13znx0m0me8cquu0tq"),
                ("/latest/meta-data/owner-account-id", "1609123456789012"),
                ("/latest/meta-data/instance/instance-type", "ecs.g6e.large"),
                ("/latest/meta-data/region-id", "cn-hangzhou"),
                ("/latest/meta-data/zone-id", "cn-hangzhou-i"),
                ("/latest/meta-data/private-ipv4", "192.168.0.5"),
                ("/latest/meta-data/eipv4", "120.55.1.2"),
                ("/latest/meta-data/public-ipv4", "120.55.1.2"),
            ],
        );
        assert_eq!(
            labels(&metadata),
            [
                "1609123456789012",
                "i-bp13znx0m0me8cquu0tq",
                "ecs.g6e.large",
                "",
                "cn-hangzhou",
                "cn-hangzhou-i",
                "",
                "192.168.0.5",
                "120.55.1.2"
            ]
        );
    }
}
