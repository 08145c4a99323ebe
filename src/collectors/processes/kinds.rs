//! What application a process is, told from its command line: names of coroot-node-agent, as dashboards know them.

/// What a rule looks at.
enum Rule {
    /// The command is a file of this name.
    Is(&'static str),
    /// The command's name ends so.
    Ends(&'static str),
    /// The command's name is this with a version behind it, or without.
    Versioned(&'static str),
    /// This stands somewhere in the command line.
    Has(&'static str),
    /// The first of these ends the command's name, and the second stands somewhere.
    EndsAndHas(&'static str, &'static str),
}

use Rule::{Ends, EndsAndHas, Has, Is, Versioned};

/// The first that holds decides: what runs inside a language's interpreter comes before the language.
#[rustfmt::skip]
const RULES: &[(Rule, &str)] = &[
    (Has("org.elasticsearch.bootstrap"), "elasticsearch"),
    (Has("org.opensearch.bootstrap"), "opensearch"),
    (Has("kafka.Kafka"), "kafka"),
    (Has("io.confluent.support.metrics.SupportedKafka"), "kafka"),
    (Has("org.apache.zookeeper.server.quorum.QuorumPeerMain"), "zookeeper"),
    (Has("org.apache.cassandra.service.CassandraDaemon"), "cassandra"),
    (Has("org.apache.catalina.startup.Bootstrap"), "tomcat"),
    (EndsAndHas("beam.smp", "rabbit"), "rabbitmq"),
    (EndsAndHas("beam.smp", "couch"), "couchbase"),
    (Ends("memcached"), "memcached"),
    (Ends("envoy"), "envoy"),
    (Ends("mongod"), "mongodb"),
    (Ends("mongos"), "mongos"),
    (Ends("mysqld"), "mysql"),
    (Ends("mariadbd"), "mysql"),
    (Ends("sqlservr"), "mssql"),
    (Ends("redis-server"), "redis"),
    (Ends("redis-sentinel"), "redis-sentinel"),
    (Ends("keydb-server"), "keydb"),
    (Ends("valkey-server"), "valkey"),
    (Ends("dragonfly"), "dragonfly"),
    (Ends("pgbouncer"), "pgbouncer"),
    (Ends("postgres"), "postgres"),
    (Ends("haproxy"), "haproxy"),
    (Ends("nginx"), "nginx"),
    (Ends("kubelet"), "kubelet"),
    (Ends("kube-apiserver"), "kube-apiserver"),
    (Ends("kube-controller-manager"), "kube-controller-manager"),
    (Ends("kube-scheduler"), "kube-scheduler"),
    (Is("k3s"), "k3s"),
    (Is("etcd"), "etcd"),
    (Ends("dockerd"), "dockerd"),
    (Is("consul"), "consul"),
    (Ends("clickhouse-server"), "clickhouse"),
    (Ends("traefik"), "traefik"),
    (Is("asd"), "aerospike"),
    (Ends("httpd"), "httpd"),
    (Ends("apache2"), "httpd"),
    (Ends("influxd"), "influxdb"),
    (Is("vault"), "vault"),
    (Ends("proxysql"), "proxysql"),
    (Ends("cockroach"), "cockroach"),
    (Ends("prometheus"), "prometheus"),
    (Ends("ceph-mon"), "ceph"),
    (Ends("ceph-mgr"), "ceph"),
    (Ends("ceph-osd"), "ceph"),
    (Ends("cephcsi"), "ceph"),
    (Is("rook"), "rook"),
    (Ends("nats-server"), "nats"),
    (Is("ollama"), "ollama"),
    (Ends("fdbserver"), "foundationdb"),
    (Ends("victoria-metrics"), "victoria-metrics"),
    (Ends("victoria-metrics-prod"), "victoria-metrics"),
    (Ends("vmstorage"), "victoria-metrics"),
    (Ends("vminsert"), "victoria-metrics"),
    (Ends("vmselect"), "victoria-metrics"),
    (Ends("victoria-logs"), "victoria-logs"),
    (Ends("victoria-logs-prod"), "victoria-logs"),
    (Is("java"), "java"),
    (Versioned("php-fpm"), "php"),
    (Versioned("php-cgi"), "php"),
    (Versioned("php"), "php"),
    (Versioned("python"), "python"),
    (Versioned("nodejs"), "nodejs"),
    (Versioned("node"), "nodejs"),
    (Versioned("ruby"), "ruby"),
];

/// A type that stands in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind(&'static str);

impl Kind {
    /// The label value.
    pub fn word(self) -> &'static str {
        self.0
    }

    /// The type whose label value this is.
    pub fn from_word(word: &str) -> Option<Kind> {
        RULES.iter().find(|(_, kind)| *kind == word).map(|(_, kind)| Kind(kind))
    }
}

/// The type of a process with these arguments (each ended by a NUL) and this executable file (empty if unknown); `None` for one
/// that nobody has heard of.
pub fn kind_of(arguments: &[u8], file: &[u8]) -> Option<Kind> {
    let first = arguments.split(|&byte| byte == 0).next().unwrap_or_default();
    // Some write a title there: `nginx: master process /usr/sbin/nginx`.
    let word = first.split(u8::is_ascii_whitespace).next().unwrap_or_default();
    let command = name(word.strip_suffix(b":").unwrap_or(word));
    let of_command = RULES.iter().find(|(rule, _)| holds(rule, command, arguments));
    let is_versioned =
        |(rule, _): &&(Rule, &str)| matches!(rule, Versioned(_)) && holds(rule, name(file), b"");
    let found =
        if command.is_empty() { None } else { of_command.or_else(|| RULES.iter().find(is_versioned)) };
    found.map(|(_, kind)| Kind(kind))
}

/// The last component of a path.
fn name(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
}

fn holds(rule: &Rule, command: &[u8], arguments: &[u8]) -> bool {
    let has = |text: &str| arguments.windows(text.len()).any(|part| part == text.as_bytes());
    match rule {
        Is(text) => command == text.as_bytes(),
        Ends(text) => command.ends_with(text.as_bytes()),
        Versioned(text) => command
            .strip_prefix(text.as_bytes())
            .is_some_and(|version| version.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.')),
        Has(text) => has(text),
        EndsAndHas(end, text) => command.ends_with(end.as_bytes()) && has(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procfs::fuzz;

    fn kind(arguments: &str, file: &str) -> &'static str {
        kind_of(arguments.replace(' ', "\0").as_bytes(), file.as_bytes()).map_or("", Kind::word)
    }

    #[test]
    fn command_lines_as_they_are_met() {
        for (arguments, file, wanted) in [
            ("redis-server *:6379", "", "redis"),
            ("/usr/bin/redis-sentinel *:26379", "", "redis-sentinel"),
            ("/opt/java/bin/java -Xmx1G -cp /a.jar:/b.jar kafka.Kafka server.properties", "", "kafka"),
            ("java -jar shop.jar", "", "java"),
            ("/usr/lib/erlang/erts-13/bin/beam.smp -W w -- -pa /opt/rabbitmq/ebin", "", "rabbitmq"),
            ("/usr/lib/erlang/erts-13/bin/beam.smp -- -name ejabberd", "", ""),
            ("/usr/sbin/mysqld --user=mysql", "", "mysql"),
            ("mariadbd", "", "mysql"),
            ("python3.11 -m http.server", "", "python"),
            ("gunicorn master", "/usr/bin/python3.11", "python"),
            ("node server.js", "", "nodejs"),
            ("node_exporter", "", ""),
            ("php-fpm8.2", "", "php"),
            ("pythonic", "", ""),
            ("sleep 5", "/usr/bin/sleep", ""),
            ("netcd", "", ""),
            ("", "/usr/bin/python3", ""),
        ] {
            assert_eq!(kind(arguments, file), wanted, "{arguments}");
        }
        assert_eq!(kind_of(b"nginx: master process /usr/sbin/nginx", b"").unwrap().word(), "nginx");
        assert_eq!(kind_of(b"postgres: checkpointer \0\0\0", b"").unwrap().word(), "postgres");
        assert_eq!(kind_of(b"php-fpm: pool www\0", b"").unwrap().word(), "php");
    }

    #[test]
    fn words_are_their_own_types() {
        for (_, word) in RULES {
            assert_eq!(Kind::from_word(word).unwrap().word(), *word);
        }
        assert!(Kind::from_word("").is_none());
    }

    #[test]
    fn survives_any_bytes() {
        fuzz::hammer(b"/usr/bin/python3.11\0-m\0kafka.Kafka\0", |bytes| {
            let _ = kind_of(bytes, bytes);
        });
    }
}
