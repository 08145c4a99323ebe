//! One inquiry: the token, then each request, and what came of them. Pure: who holds the clock and the socket drives it.

use super::exchange::Failure;
use super::message::{self, Answer};
use super::{Cloud, Metadata};
use crate::sys::clock::MonotonicNs;

/// What is to be done next.
#[derive(Debug)]
pub enum Next {
    /// This is to be sent, on a connection of its own.
    Ask(Vec<u8>),
    /// Nothing: all that could be learned is.
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Token,
    Request(usize),
}

/// An inquiry under way.
pub struct Inquiry {
    cloud: &'static Cloud,
    step: Step,
    /// When it is given up as a whole.
    pub deadline_ns: MonotonicNs,
    /// The token, once there is one.
    pub token: Option<String>,
    /// What was learned.
    pub found: Metadata,
    /// The first thing that went wrong; without one, what was not learned is not there.
    pub problem: Option<String>,
}

impl Inquiry {
    /// The beginning, and what to send first.
    pub fn begin(cloud: &'static Cloud, deadline_ns: MonotonicNs) -> (Inquiry, Vec<u8>) {
        let step = if cloud.token.is_some() { Step::Token } else { Step::Request(0) };
        let found = Metadata::of(cloud.provider);
        let inquiry = Inquiry { cloud, step, deadline_ns, token: None, found, problem: None };
        let request = inquiry.request().unwrap_or_default();
        (inquiry, request)
    }

    /// Takes the answer to what was sent last, or why there is none.
    pub fn answered(&mut self, answer: Result<Answer, Failure>) -> Next {
        let goes_on = match self.step {
            Step::Token => self.take_token(answer),
            Step::Request(at) => self.take(at, answer),
        };
        self.step = match self.step {
            Step::Token => Step::Request(0),
            Step::Request(at) => Step::Request(at.saturating_add(1)),
        };
        match self.request() {
            Some(request) if goes_on => Next::Ask(request),
            _ => Next::Done,
        }
    }

    fn take_token(&mut self, answer: Result<Answer, Failure>) -> bool {
        let Some(token) = &self.cloud.token else { return true };
        let what = match answer {
            Ok(answer) if answer.status == 200 => {
                self.token = (token.parse)(&answer.body);
                match self.token {
                    Some(_) => return true,
                    None => "no token in the answer".to_owned(),
                }
            }
            Ok(answer) => format!("status {}", answer.status),
            // Nobody is there, so nobody can be asked without a token.
            Err(failure @ (Failure::Unreachable(_) | Failure::Late { was_connected: false })) => {
                self.fail(token.path, &failure.to_string());
                return false;
            }
            Err(failure) => failure.to_string(),
        };
        if token.is_required {
            self.fail(token.path, &what);
        }
        !token.is_required
    }

    /// Whether it is worth going on.
    fn take(&mut self, at: usize, answer: Result<Answer, Failure>) -> bool {
        let Some(request) = self.cloud.requests.get(at) else { return false };
        match answer {
            Ok(Answer { status: 200, body }) => {
                let makes_sense = request.take(&body, &mut self.found);
                (self.cloud.settle)(&mut self.found);
                if request.is_required && !makes_sense {
                    self.fail(request.path, "an answer that makes no sense");
                }
                true
            }
            Ok(Answer { status: 404, .. }) if !request.is_required => true,
            Ok(Answer { status, .. }) => {
                self.fail(request.path, &format!("status {status}"));
                true
            }
            Err(failure) => {
                self.fail(request.path, &failure.to_string());
                // It may be this one answer that is broken.
                matches!(failure, Failure::Senseless(_))
            }
        }
    }

    fn fail(&mut self, path: &str, what: &str) {
        self.problem.get_or_insert_with(|| format!("{} {path}: {what}", self.cloud.address));
    }

    fn request(&self) -> Option<Vec<u8>> {
        match (self.step, &self.cloud.token) {
            (Step::Token, Some(token)) => {
                let host = host(self.cloud);
                Some(message::request("PUT", token.path, &host, &[token.header], token.body))
            }
            (Step::Token, None) => None,
            (Step::Request(at), _) => {
                let path = self.cloud.requests.get(at)?.path;
                Some(get(self.cloud, path, self.token.as_deref()))
            }
        }
    }
}

/// A GET as this cloud wants it.
pub fn get(cloud: &Cloud, path: &str, token: Option<&str>) -> Vec<u8> {
    let carried = match (&cloud.token, token) {
        (Some(known), Some(token)) => [known.carrier, token].concat(),
        _ => String::new(),
    };
    message::request("GET", path, &host(cloud), &[cloud.header, &carried], "")
}

fn host(cloud: &Cloud) -> String {
    cloud.host.map_or_else(|| cloud.address.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::{CLOUDS, Field};

    fn cloud(provider: &str) -> &'static Cloud {
        CLOUDS.iter().copied().find(|cloud| cloud.provider == provider).unwrap()
    }

    /// The inquiry of a cloud that answers as `answer` says to `METHOD PATH` and the rest of the head; and what was asked.
    fn inquire(
        provider: &str,
        answer: impl Fn(&str, &str) -> Result<Answer, Failure>,
    ) -> (Inquiry, Vec<String>) {
        let (mut inquiry, mut request) = Inquiry::begin(cloud(provider), 0);
        let mut asked = Vec::new();
        loop {
            let text = String::from_utf8(request).unwrap();
            let (what, rest) = text.split_once(" HTTP/1.1\r\n").unwrap();
            asked.push(what.to_owned());
            match inquiry.answered(answer(what, rest)) {
                Next::Ask(next) => request = next,
                Next::Done => return (inquiry, asked),
            }
        }
    }

    fn ok(body: &str) -> Result<Answer, Failure> {
        Ok(Answer { status: 200, body: body.as_bytes().to_vec() })
    }

    fn status(status: u16) -> Result<Answer, Failure> {
        Ok(Answer { status, body: Vec::new() })
    }

    fn aws(what: &str) -> Result<Answer, Failure> {
        match what.rsplit('/').next().unwrap() {
            "token" => ok("TOKEN"),
            "document" => ok(r#"{"instanceId":"i-1","region":"eu-west-1"}"#),
            "instance-life-cycle" => ok("spot"),
            _ => status(404),
        }
    }

    #[test]
    fn a_token_is_carried() {
        let (inquiry, asked) = inquire("AWS", |what, head| {
            let is_carried = head.contains("\r\nX-aws-ec2-metadata-token: TOKEN\r\n");
            assert_eq!(is_carried, what.starts_with("GET "), "{head}");
            aws(what)
        });
        assert_eq!((asked.len(), inquiry.problem), (5, None));
        assert_eq!(asked[0], "PUT /latest/api/token");
        assert_eq!(inquiry.token.as_deref(), Some("TOKEN"));
        let found =
            [Field::Provider, Field::InstanceId, Field::LifeCycle].map(|field| inquiry.found.get(field));
        assert_eq!(found, ["AWS", "i-1", "spot"]);
    }

    #[test]
    fn where_there_is_no_token_it_goes_without() {
        for refuse in [|| status(404), || status(403), || Err(Failure::Late { was_connected: true })] {
            let (inquiry, asked) = inquire("AWS", |what, head| {
                assert!(!head.contains("X-aws-ec2-metadata-token:"), "{head}");
                if what.starts_with("PUT") { refuse() } else { aws(what) }
            });
            assert_eq!(
                (asked.len(), inquiry.found.get(Field::InstanceId), inquiry.problem),
                (5, "i-1", None)
            );
        }
        let (inquiry, asked) = inquire("IBM", |_, _| status(404));
        assert_eq!(asked.len(), 1);
        let problem = "169.254.169.254 /instance_identity/v1/token?version=2025-04-22: status 404";
        assert_eq!(inquiry.problem.as_deref(), Some(problem));
    }

    #[test]
    fn where_nobody_answers_it_ends_at_once() {
        for cloud in CLOUDS {
            let (inquiry, asked) =
                inquire(cloud.provider, |_, _| Err(Failure::Late { was_connected: false }));
            assert_eq!(asked.len(), 1, "{}", cloud.provider);
            assert!(inquiry.problem.unwrap().ends_with(": no connection in time"));
        }
    }

    #[test]
    fn parts_that_are_missing_are_no_problem_and_parts_that_fail_are() {
        let (inquiry, asked) = inquire("GCP", |what, head| {
            assert!(head.contains("\r\nMetadata-Flavor: Google\r\n"), "{head}");
            if what.ends_with("/instance/id") { ok("42") } else { status(404) }
        });
        assert_eq!((asked.len(), inquiry.problem), (7, None));
        let (inquiry, asked) = inquire("GCP", |what, _| match what.rsplit('/').next().unwrap() {
            "id" => status(500),
            "zone" => ok("projects/1/zones/us-central1-a"),
            "ip" => Err(Failure::Senseless("no HTTP")),
            _ => status(404),
        });
        assert_eq!((asked.len(), inquiry.found.get(Field::Region)), (7, "us-central1"));
        assert!(inquiry.problem.unwrap().ends_with("/instance/id: status 500"));
        let (inquiry, _) = inquire("Azure", |_, _| ok("<html>"));
        assert!(inquiry.problem.unwrap().ends_with("makes no sense"));
    }

    #[test]
    fn redirections_are_not_followed() {
        let (inquiry, asked) = inquire("Hetzner", |_, _| status(302));
        assert_eq!(asked, ["GET /hetzner/v1/metadata", "GET /hetzner/v1/metadata/private-networks"]);
        assert!(inquiry.problem.unwrap().ends_with("/hetzner/v1/metadata: status 302"));
    }
}
