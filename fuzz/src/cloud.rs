//! Answers of the metadata services of clouds: as messages, and what is in those as every document that is asked for.

use nodeprobe::cloud::{CLOUDS, Metadata, message};

/// What libFuzzer calls.
pub fn run(data: &[u8]) {
    for is_closed in [false, true] {
        if let Ok(Some(answer)) = message::parse(data, is_closed) {
            read(&answer.body);
        }
    }
    read(data);
}

fn read(body: &[u8]) {
    for cloud in CLOUDS {
        let mut metadata = Metadata::default();
        for request in cloud.requests {
            request.take(body, &mut metadata);
            (cloud.settle)(&mut metadata);
        }
        for label in metadata.labels() {
            assert!(label.is_empty() || label.bytes().all(|byte| byte.is_ascii_graphic()), "{label:?}");
        }
        let token = cloud.token.as_ref().and_then(|token| (token.parse)(body));
        assert!(token.is_none_or(|token| !token.contains(['\r', '\n'])));
        if let Some(notice) = &cloud.notice {
            (notice.parse)(body, &metadata);
        }
    }
}
