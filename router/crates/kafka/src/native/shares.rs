//! What the members of a group have, as the brokers know it.

use std::collections::BTreeMap;
use std::ptr;
use std::slice;
use std::time::Duration;

use rdkafka_sys as sys;

use super::{Client, Code, c_string, text};

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    /// Its `client.id`.
    pub(crate) client_id: String,
    /// Where it is.
    pub(crate) host: String,
    /// What it has: topics and the numbers of partitions.
    pub(crate) share: Vec<(String, Vec<i32>)>,
}

impl Client {
    /// The members of a group; none where there is no such group. `None` while it is in the middle of a rebalance, or where a member
    /// says what it has in another way than Kafka's consumers do.
    ///
    /// (By the older of two requests for it: librdkafka 2.12 runs into an assertion of its own where the one of the admin API times out
    /// while a coordinator moves.)
    pub(crate) fn members(&self, group: &str, timeout: Duration) -> Result<Option<Vec<Member>>, Code> {
        let name = c_string(group);
        let timeout = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        let mut list = ptr::null();
        // SAFETY: live pointers; the list, where there is one, is ours to destroy, and arrays in it are as long as they say.
        unsafe {
            let code = Code::of(sys::rd_kafka_list_groups(self.ptr(), name.as_ptr(), &raw mut list, timeout));
            if list.is_null() {
                return code.ok().map(|()| None);
            }
            let found = members(&*list);
            sys::rd_kafka_group_list_destroy(list);
            match found {
                // Nobody has it, of those that have answered; that is to be all of them.
                Some(found) if found.is_empty() => code.ok().map(|()| Some(found)),
                found => Ok(found),
            }
        }
    }

    /// How many partitions of each topic the members of a group have together. `None` where it has no members, and where
    /// [they](Self::members) are not known.
    pub(crate) fn shares(&self, group: &str, timeout: Duration) -> Result<Option<BTreeMap<String, u32>>, Code> {
        let members = self.members(group, timeout)?.filter(|members| !members.is_empty());
        Ok(members.map(|members| {
            let mut shares = BTreeMap::new();
            for (topic, partitions) in members.into_iter().flat_map(|member| member.share) {
                *shares.entry(topic).or_default() += u32::try_from(partitions.len()).unwrap_or(u32::MAX);
            }
            shares
        }))
    }
}

/// # Safety
/// The list is live.
unsafe fn members(list: &sys::rd_kafka_group_list) -> Option<Vec<Member>> {
    // SAFETY: as the caller says.
    unsafe {
        if list.group_cnt <= 0 {
            return Some(Vec::new());
        }
        let group = &*list.groups;
        match &*text(group.state) {
            "Stable" => {}
            "Empty" => return Some(Vec::new()),
            _ => return None,
        }
        (0..usize::try_from(group.member_cnt).unwrap_or(0))
            .map(|index| {
                let member = &*group.members.add(index);
                let share = match usize::try_from(member.member_assignment_size).unwrap_or(0) {
                    0 => Vec::new(),
                    size => share(slice::from_raw_parts(member.member_assignment.cast(), size))?,
                };
                Some(Member { client_id: text(member.client_id), host: text(member.client_host), share })
            })
            .collect()
    }
}

/// What is in an assignment as consumers write it: Kafka's `ConsumerProtocolAssignment`, of which every version begins with its number,
/// and topics with partitions.
fn share(assignment: &[u8]) -> Option<Vec<(String, Vec<i32>)>> {
    let mut rest = assignment.get(2..)?;
    let mut share = Vec::new();
    for _ in 0..i32::from_be_bytes(take(&mut rest)?) {
        let length = usize::try_from(i16::from_be_bytes(take(&mut rest)?)).ok()?;
        let topic = str::from_utf8(rest.split_off(..length)?).ok()?;
        let count = usize::try_from(i32::from_be_bytes(take(&mut rest)?)).ok()?;
        let partitions = rest.split_off(..count.checked_mul(4)?)?.as_chunks().0;
        share.push((topic.to_owned(), partitions.iter().map(|number| i32::from_be_bytes(*number)).collect()));
    }
    Some(share)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    rest.split_off(..N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &[u8] = b"\0\x01\0\0\0\x01\0\x02ab\0\0\0\x02\0\0\0\x07\0\0\0\x09\xff\xff\xff\xff";

    #[test]
    fn an_assignment_is_read() {
        assert_eq!(share(TWO), Some(vec![("ab".to_owned(), vec![7, 9])]));
    }

    #[test]
    fn what_is_cut_off_is_no_assignment() {
        // Behind the partitions is what the assignor has to say, which is of no interest.
        for end in 0..TWO.len() - 4 {
            assert_eq!(share(&TWO[..end]), None, "{end}");
        }
    }
}
