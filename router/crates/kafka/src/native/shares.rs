//! What the members of a group have, as the brokers know it.

use std::collections::BTreeMap;
use std::ptr;
use std::slice;
use std::time::Duration;

use rdkafka_sys as sys;

use super::{Client, Code, c_string, text};

impl Client {
    /// How many partitions of each topic the members of a group have together. `None` while the group is in the middle of a
    /// rebalance, has no members, or where one of them says what it has in another way than Kafka's consumers do.
    ///
    /// (By the older of two requests for it: librdkafka 2.12 runs into an assertion of its own where the one of the admin API times out
    /// while a coordinator moves.)
    pub(crate) fn shares(&self, group: &str, timeout: Duration) -> Result<Option<BTreeMap<String, u32>>, Code> {
        let name = c_string(group);
        let timeout = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        let mut list = ptr::null();
        // SAFETY: live pointers; the list, where there is one, is ours to destroy, and arrays in it are as long as they say.
        unsafe {
            let code = Code::of(sys::rd_kafka_list_groups(self.ptr(), name.as_ptr(), &raw mut list, timeout));
            if list.is_null() {
                return code.ok().map(|()| None);
            }
            let shares = shares(&*list);
            sys::rd_kafka_group_list_destroy(list);
            Ok(shares)
        }
    }
}

/// # Safety
/// The list is live.
unsafe fn shares(list: &sys::rd_kafka_group_list) -> Option<BTreeMap<String, u32>> {
    let mut shares = BTreeMap::new();
    // SAFETY: as the caller says.
    unsafe {
        let group = (list.group_cnt > 0).then(|| &*list.groups)?;
        if text(group.state) != "Stable" {
            return None;
        }
        for index in 0..usize::try_from(group.member_cnt).unwrap_or(0) {
            let member = &*group.members.add(index);
            let size = usize::try_from(member.member_assignment_size).unwrap_or(0);
            if size > 0 {
                count(slice::from_raw_parts(member.member_assignment.cast(), size), &mut shares)?;
            }
        }
    }
    Some(shares)
}

/// Counts what is in an assignment as consumers write it: Kafka's `ConsumerProtocolAssignment`, of which every version begins with
/// its number, and topics with partitions.
fn count(assignment: &[u8], shares: &mut BTreeMap<String, u32>) -> Option<()> {
    let mut rest = assignment.get(2..)?;
    for _ in 0..i32::from_be_bytes(take(&mut rest)?) {
        let length = usize::try_from(i16::from_be_bytes(take(&mut rest)?)).ok()?;
        let topic = str::from_utf8(rest.split_off(..length)?).ok()?;
        let partitions = u32::try_from(i32::from_be_bytes(take(&mut rest)?)).ok()?;
        rest.split_off(..usize::try_from(partitions).ok()?.checked_mul(4)?)?;
        *shares.entry(topic.to_owned()).or_default() += partitions;
    }
    Some(())
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    rest.split_off(..N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &[u8] = b"\0\x01\0\0\0\x01\0\x02ab\0\0\0\x02\0\0\0\x07\0\0\0\x09\xff\xff\xff\xff";

    #[test]
    fn partitions_of_an_assignment_are_counted() {
        let mut shares = BTreeMap::new();
        assert_eq!(count(TWO, &mut shares).and_then(|()| count(TWO, &mut shares)), Some(()));
        assert_eq!(shares, BTreeMap::from([("ab".to_owned(), 4)]));
    }

    #[test]
    fn what_is_cut_off_is_no_assignment() {
        // Behind the partitions is what the assignor has to say, which is of no interest.
        for end in 0..TWO.len() - 4 {
            assert_eq!(count(&TWO[..end], &mut BTreeMap::new()), None, "{end}");
        }
    }
}
