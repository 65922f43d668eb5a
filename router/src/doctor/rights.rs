//! Judges what the cluster allows against what `check --acls` lists.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pointsman_config::Plan;
use pointsman_config::acls::{self, Acl, Operation, Resource};
use pointsman_core::port::survey::{ClusterSurvey, Right};

use super::{Finding, Severity};

/// The rights that are missing, each with the command that gives it. What a topic that is not there would allow, and what is
/// allowed for transactional ids, the cluster does not tell.
pub(super) fn judge(plan: &Plan, survey: &ClusterSurvey, bootstrap: &str, principal: &str) -> Vec<Finding> {
    let mut needed: BTreeMap<(Resource, Operation), Acl> = BTreeMap::new();
    for acl in acls::acls(plan).into_iter().flat_map(|route| route.acls) {
        needed.entry((acl.resource.clone(), acl.operation)).or_insert(acl);
    }
    let (mut asked, mut unknown) = (0, 0);
    let mut findings = Vec::new();
    for acl in needed.values() {
        let Some((thing, right, severity)) = wanted(acl) else { continue };
        match rights_on(acl, survey) {
            Some(Some(rights)) => {
                asked += 1;
                if !rights.contains(&right) {
                    let cause = format!("{principal} may not {}: {}", acl.operation.name(), acl.why);
                    let remedy = acls::command(acl, bootstrap, principal);
                    findings.push(Finding { severity, ..Finding::warning(thing, cause, remedy) });
                }
            }
            Some(None) => unknown += 1,
            None => {}
        }
    }
    if unknown > 0 {
        findings.push(Finding::warning(
            "rights",
            "the cluster does not tell all that may be done",
            "Apache Kafka does since 2.3; `pointsman check --acls` has all that the router needs",
        ));
    } else if asked > 0 && findings.is_empty() {
        findings.push(Finding::ok("rights", "all that could be asked for are there"));
    }
    findings
}

/// What is asked for, and how bad it is to lack it; `None` for what can't be asked, or is not needed now.
fn wanted(acl: &Acl) -> Option<(String, Right, Severity)> {
    let thing = match &acl.resource {
        Resource::Topic(name) => format!("topic {name}"),
        Resource::Group(name) => format!("group {name}"),
        Resource::TransactionalId(_) | Resource::TransactionalIdPrefix(_) | Resource::Cluster => return None,
    };
    Some(match acl.operation {
        Operation::Read => (thing, Right::Read, Severity::Error),
        Operation::Write => (thing, Right::Write, Severity::Error),
        Operation::Delete => (thing, Right::Delete, Severity::Warning),
        Operation::DescribeConfigs => (thing, Right::DescribeConfigs, Severity::Warning),
        // A topic that can be asked for its rights is there.
        Operation::Create | Operation::IdempotentWrite => return None,
    })
}

/// `None` where the resource itself could not be looked up.
fn rights_on<'a>(acl: &Acl, survey: &'a ClusterSurvey) -> Option<Option<&'a BTreeSet<Right>>> {
    let name = |name: &Arc<str>| Arc::clone(name);
    match &acl.resource {
        Resource::Topic(topic) => {
            let found = survey.topics.get(&name(topic))?.as_ref().ok()?.as_ref()?;
            Some(found.rights.as_ref())
        }
        Resource::Group(group) => Some(survey.groups.get(&name(group))?.as_ref().ok()?.as_ref()?.rights.as_ref()),
        Resource::TransactionalId(_) | Resource::TransactionalIdPrefix(_) | Resource::Cluster => None,
    }
}
