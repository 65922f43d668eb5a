//! The access rights that the routes need on a Kafka cluster, and no more.

use std::fmt;
use std::sync::Arc;

use crate::plan::{BrokerPlan, Plan, RoutePlan, TopicRole};

/// What one route needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteAcls {
    /// Name of the route.
    pub route: Arc<str>,
    /// The rights, in a stable order, none twice.
    pub acls: Vec<Acl>,
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

/// What a right is about. Names are literal, never prefixes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// A consumer group.
    Group(Arc<str>),
    /// A topic.
    Topic(Arc<str>),
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
    for source in &route.sources {
        allow(Resource::Topic(Arc::clone(&source.topic)), Operation::Read, "source");
    }
    let retries = route.sources.iter().filter_map(|source| source.retry);
    let written = route.outputs.iter().map(|output| output.topic).chain(retries).chain(route.dead_letter);
    for topic in written.filter_map(|id| plan.topics.get(usize::try_from(id.0).ok()?)) {
        let name = || Resource::Topic(Arc::clone(&topic.name));
        match topic.role {
            TopicRole::Output => allow(name(), Operation::Write, "output"),
            TopicRole::Retry { .. } => {
                allow(name(), Operation::Read, "retry topic");
                allow(name(), Operation::Write, "retry topic");
                allow(name(), Operation::Create, "only until the topic is there");
            }
            TopicRole::DeadLetter { .. } => {
                allow(name(), Operation::Write, "dead letters");
                allow(name(), Operation::Create, "only until the topic is there");
            }
        }
    }
    acls.sort();
    acls.dedup_by(|one, other| (&one.resource, one.operation) == (&other.resource, other.operation));
    RouteAcls { route: Arc::clone(&route.name), acls }
}

/// The arguments of `kafka-acls.sh --add` for one right, without those that say where the cluster is and who is allowed.
impl fmt::Display for Acl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.resource {
            // A group's name is free text, so it is quoted for the shell.
            Resource::Group(name) => write!(f, "--group '{}'", name.replace('\'', r"'\''"))?,
            Resource::Topic(name) => write!(f, "--topic '{name}'")?,
            Resource::Cluster => f.write_str("--cluster")?,
        }
        write!(f, " --operation {}", self.operation.name())
    }
}

/// Commands for a shell, one right a line with its reason, a heading for each route. `bootstrap` is the cluster,
/// `principal` who is to be allowed, such as `User:pointsman`.
#[must_use]
pub fn render(routes: &[RouteAcls], bootstrap: &str, principal: &str) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    let command =
        format!("kafka-acls.sh --bootstrap-server {} --add --allow-principal {}", quoted(bootstrap), quoted(principal));
    let mut text = String::new();
    for route in routes {
        text.push_str(&format!("# route {}\n", route.route));
        for acl in &route.acls {
            text.push_str(&format!("{command} {acl}  # {}\n", acl.why));
        }
    }
    text
}
