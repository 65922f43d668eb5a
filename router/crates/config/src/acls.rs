//! The access rights that the routes need on a Kafka cluster, and no more.

use std::fmt;
use std::sync::Arc;

use pointsman_core::delivery::TopicId;

use crate::dead_letters::{audit_topic, parking_topic, writer_id};
use crate::plan::{BrokerPlan, DeliveryPlan, OnDead, Plan, RoutePlan, TopicRole};

/// What one route needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteAcls {
    /// Name of the route.
    pub route: Arc<str>,
    /// The rights, in a stable order, none twice.
    pub acls: Vec<Acl>,
    /// What whoever replays or discards the route's dead letters needs: the router itself does neither.
    pub handling: Vec<Acl>,
}

/// One right: an operation on a resource, to be allowed to the router's principal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Acl {
    /// On what.
    pub resource: Resource,
    /// What.
    pub operation: Operation,
    /// Why, and when it can be done without.
    pub why: &'static str,
}

/// What a right is about. Names are literal, but for one that says that it is a prefix.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// A consumer group.
    Group(Arc<str>),
    /// A topic.
    Topic(Arc<str>),
    /// A writer of transactions.
    TransactionalId(Arc<str>),
    /// All writers of transactions whose names begin so.
    TransactionalIdPrefix(Arc<str>),
    /// The cluster itself.
    Cluster,
}

/// What may be done. In Kafka, `Read` and `Write` include `Describe`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Fetch records; join a group and commit for it.
    Read,
    /// Produce records.
    Write,
    /// Create the topic.
    Create,
    /// Remove records.
    Delete,
    /// Ask for the settings of a topic.
    DescribeConfigs,
    /// Produce idempotently, where the broker is older than 2.8 (KIP-679).
    IdempotentWrite,
}

impl Operation {
    /// The name that `kafka-acls.sh` takes.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "Read",
            Self::Write => "Write",
            Self::Create => "Create",
            Self::Delete => "Delete",
            Self::DescribeConfigs => "DescribeConfigs",
            Self::IdempotentWrite => "IdempotentWrite",
        }
    }
}

/// What each route needs, in the order of the plan. Empty for the embedded log, which has no rights to give.
///
/// `Describe` is not listed: `Read` and `Write` include it. What topic tooling needs to alter or delete is not part of it.
#[must_use]
pub fn acls(plan: &Plan) -> Vec<RouteAcls> {
    match plan.broker {
        BrokerPlan::Embedded { .. } => Vec::new(),
        BrokerPlan::Kafka { .. } => plan.routes.iter().map(|route| of_route(plan, route)).collect(),
    }
}

fn of_route(plan: &Plan, route: &RoutePlan) -> RouteAcls {
    let mut acls = Vec::new();
    let mut allow = |resource, operation, why| acls.push(Acl { resource, operation, why });
    allow(Resource::Group(Arc::clone(&route.group)), Operation::Read, "joins the group and commits for it");
    allow(
        Resource::Cluster,
        Operation::IdempotentWrite,
        "only for brokers before 2.8: later ones need Write on a topic alone",
    );
    let in_transactions = matches!(plan.router.delivery, DeliveryPlan::ExactlyOnce(_));
    if in_transactions {
        let prefix = Resource::TransactionalIdPrefix(format!("{}.", plan.router.name).into());
        allow(prefix, Operation::Write, "one writer of transactions for each worker");
    }
    for source in &route.sources {
        allow(Resource::Topic(Arc::clone(&source.topic)), Operation::Read, "source");
    }
    let retries = route.sources.iter().filter_map(|source| source.retry);
    let written = route.outputs.iter().map(|output| output.topic).chain(retries).chain(route.dead_letter);
    for topic in written.filter_map(|id| plan.topics.get(usize::try_from(id.0).ok()?)) {
        let name = || Resource::Topic(Arc::clone(&topic.name));
        if in_transactions {
            allow(name(), Operation::DescribeConfigs, "how large batches may be; without it each record is sent alone");
        }
        match topic.role {
            TopicRole::Output => allow(name(), Operation::Write, "output"),
            TopicRole::Retry { .. } => {
                allow(name(), Operation::Read, "retry topic");
                allow(name(), Operation::Write, "retry topic");
                allow(name(), Operation::Create, "only until the topic is there");
                allow(name(), Operation::Delete, "removes what is settled; without it the topic only grows");
            }
            TopicRole::DeadLetter { .. } => {
                allow(name(), Operation::Write, "dead letters");
                allow(name(), Operation::Create, "only until the topic is there");
            }
        }
    }
    RouteAcls { route: Arc::clone(&route.name), acls: each_once(acls), handling: of_handling(plan, route) }
}

/// To read the letters, to keep account of them, and to write to where they may be replayed to.
fn of_handling(plan: &Plan, route: &RoutePlan) -> Vec<Acl> {
    let name = |id: TopicId| plan.topics.get(usize::try_from(id.0).ok()?).map(|topic| Arc::clone(&topic.name));
    let Some(letters) = route.dead_letter.and_then(name) else { return Vec::new() };
    let mut acls = Vec::new();
    let mut allow = |resource, operation, why| acls.push(Acl { resource, operation, why });
    allow(Resource::TransactionalId(writer_id(&letters)), Operation::Write, "one run at a time, each letter once");
    let (audit, parking) = (audit_topic(&letters), parking_topic(&letters));
    for (topic, operation, why) in [
        (&letters, Operation::Read, "dead letters"),
        (&audit, Operation::Read, "what was handled"),
        (&audit, Operation::Write, "what was handled"),
        (&parking, Operation::Write, "letters that were replayed too often"),
    ] {
        allow(Resource::Topic(Arc::clone(topic)), operation, why);
    }
    for topic in [&audit, &parking] {
        allow(Resource::Topic(Arc::clone(topic)), Operation::Create, "only until the topic is there");
    }
    for topic in [&letters, &audit, &parking] {
        allow(Resource::Topic(Arc::clone(topic)), Operation::DescribeConfigs, "how long it keeps its records");
    }
    for source in &route.sources {
        let topic = || Resource::Topic(Arc::clone(&source.topic));
        allow(topic(), Operation::Write, "replays to the source");
        allow(topic(), Operation::Read, "payloads that were too large for a letter");
        allow(topic(), Operation::DescribeConfigs, "how long it keeps its records");
        if let Some(retry) = source.retry.and_then(name) {
            allow(Resource::Topic(Arc::clone(&retry)), Operation::Write, "replays with --to retry");
            if route.on_dead == OnDead::ParkKey {
                allow(Resource::Topic(retry), Operation::Read, "which keys are held");
                allow(Resource::Group(Arc::clone(&route.group)), Operation::Read, "which keys are held");
            }
        }
    }
    each_once(acls)
}

fn each_once(mut acls: Vec<Acl>) -> Vec<Acl> {
    acls.sort();
    acls.dedup_by(|one, other| (&one.resource, one.operation) == (&other.resource, other.operation));
    acls
}

/// The arguments of `kafka-acls.sh --add` for one right, without those that say where the cluster is and who is allowed.
impl fmt::Display for Acl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.resource {
            // A group's name is free text, so it is quoted for the shell.
            Resource::Group(name) => write!(f, "--group '{}'", name.replace('\'', r"'\''"))?,
            Resource::Topic(name) => write!(f, "--topic '{name}'")?,
            Resource::TransactionalId(name) => write!(f, "--transactional-id '{name}'")?,
            Resource::TransactionalIdPrefix(name) => {
                write!(f, "--resource-pattern-type prefixed --transactional-id '{name}'")?;
            }
            Resource::Cluster => f.write_str("--cluster")?,
        }
        write!(f, " --operation {}", self.operation.name())
    }
}

/// The command for a shell that gives one right.
#[must_use]
pub fn command(acl: &Acl, bootstrap: &str, principal: &str) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    let (bootstrap, principal) = (quoted(bootstrap), quoted(principal));
    format!("kafka-acls.sh --bootstrap-server {bootstrap} --add --allow-principal {principal} {acl}")
}

/// Commands for a shell, one right a line with its reason, a heading for each route. `bootstrap` is the cluster,
/// `principal` who is to be allowed, such as `User:pointsman`.
#[must_use]
pub fn render(routes: &[RouteAcls], bootstrap: &str, principal: &str) -> String {
    let mut text = String::new();
    for route in routes {
        text.push_str(&format!("# route {}\n", route.route));
        for acl in &route.acls {
            text.push_str(&format!("{}  # {}\n", command(acl, bootstrap, principal), acl.why));
        }
        if !route.handling.is_empty() {
            text.push_str(&format!("# to replay or discard the dead letters of route {}\n", route.route));
        }
        for acl in &route.handling {
            text.push_str(&format!("{}  # {}\n", command(acl, bootstrap, principal), acl.why));
        }
    }
    text
}
