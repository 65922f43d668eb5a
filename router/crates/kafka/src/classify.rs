//! What an error code of librdkafka or a broker means for us: the only place that knows.

use rdkafka_sys::rd_kafka_resp_err_t as Known;

use crate::native::Code;

/// What follows for a delivery that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeliveryFault {
    /// The record itself is at fault: it would be refused again.
    Record,
    /// The batch it was in is too large for its topic, and it may not be at fault: it is sent alone to find out.
    Batch,
    /// Anything else: it may succeed later. What is not known to us is here too, since a dead letter can't be taken back.
    Other,
}

/// Judges the error of a delivery report.
pub(crate) fn delivery_fault(code: Code) -> DeliveryFault {
    const RECORD: &[Known] = &[
        Known::RD_KAFKA_RESP_ERR_INVALID_RECORD,
        Known::RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION,
        Known::RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP,
        Known::RD_KAFKA_RESP_ERR__INVALID_ARG,
    ];
    const BATCH: &[Known] =
        &[Known::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, Known::RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE];
    let among = |codes: &[Known]| codes.iter().any(|known| Code::of(*known) == code);
    if among(RECORD) {
        DeliveryFault::Record
    } else if among(BATCH) {
        DeliveryFault::Batch
    } else {
        DeliveryFault::Other
    }
}

/// What follows for a partition whose queue has an error on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FetchFault {
    /// The offset is not there: librdkafka has stopped, and goes on only after a new assignment.
    OutOfRange,
    /// A batch is damaged, or of a kind that this librdkafka does not know: it goes on behind it, and we must not.
    Damaged,
    /// Anything else: librdkafka goes on by itself, and passes over nothing.
    Other,
}

/// Judges the error of a partition.
pub(crate) fn fetch_fault(code: Code) -> FetchFault {
    // With `auto.offset.reset = error` it is the first of these, for an offset before or after what there is and for a
    // log that was truncated. The second is here so that no change of the client turns a loss into silence.
    let lost = [Known::RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET, Known::RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE];
    let damaged = [
        Known::RD_KAFKA_RESP_ERR__BAD_MSG,
        Known::RD_KAFKA_RESP_ERR__BAD_COMPRESSION,
        Known::RD_KAFKA_RESP_ERR__NOT_IMPLEMENTED,
    ];
    let among = |codes: &[Known]| codes.iter().any(|known| Code::of(*known) == code);
    if among(&lost) {
        FetchFault::OutOfRange
    } else if among(&damaged) {
        FetchFault::Damaged
    } else {
        FetchFault::Other
    }
}

/// Whether this is no error, but the end of a partition, at the message's offset.
pub(crate) fn end_of_partition(code: Code) -> bool {
    code == Code::of(Known::RD_KAFKA_RESP_ERR__PARTITION_EOF)
}

/// Whether a commit was refused because the member's assignment is not the current one.
pub(crate) fn group_moved_on(code: Code) -> bool {
    [
        Known::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION,
        Known::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID,
        Known::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS,
    ]
    .into_iter()
    .any(|known| Code::of(known) == code)
}

/// Whether no answer came in time.
pub(crate) fn timed_out(code: Code) -> bool {
    code == Code::of(Known::RD_KAFKA_RESP_ERR__TIMED_OUT)
}

/// Whether the broker that was asked does not know the group, since another one does or will in a moment.
pub(crate) fn coordinator_moves(code: Code) -> bool {
    [
        Known::RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
        Known::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE,
        Known::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
    ]
    .into_iter()
    .any(|known| Code::of(known) == code)
}

/// Whether nobody answered.
pub(crate) fn did_not_answer(code: Code) -> bool {
    [
        Known::RD_KAFKA_RESP_ERR__TIMED_OUT,
        Known::RD_KAFKA_RESP_ERR__TRANSPORT,
        Known::RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN,
        Known::RD_KAFKA_RESP_ERR__RESOLVE,
    ]
    .into_iter()
    .any(|known| Code::of(known) == code)
}

/// Whether a group is said not to be there.
pub(crate) fn no_such_group(code: Code) -> bool {
    code == Code::of(Known::RD_KAFKA_RESP_ERR_GROUP_ID_NOT_FOUND)
}

/// Whether a topic is said not to be there.
pub(crate) fn no_such_topic(code: Code) -> bool {
    [Known::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, Known::RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC]
        .into_iter()
        .any(|known| Code::of(known) == code)
}

/// Whether a topic is being made, and will have its leaders in a moment.
pub(crate) fn topic_in_the_making(code: Code) -> bool {
    code == Code::of(Known::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE)
}

/// Whether a topic that was to be created is there already.
pub(crate) fn topic_exists(code: Code) -> bool {
    code == Code::of(Known::RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS)
}

/// Whether the producer's own queue is full.
pub(crate) fn queue_full(code: Code) -> bool {
    code == Code::of(Known::RD_KAFKA_RESP_ERR__QUEUE_FULL)
}

/// What follows for a transaction from an error that is about it, where the code alone tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TransactionFault {
    /// The transactional id has another owner: another producer, or the broker itself, which has aborted what took too long.
    Fenced,
    /// It would be so again.
    Lasting,
    /// Anything else.
    Other,
}

/// Judges the error of a transaction.
pub(crate) fn transaction_fault(code: Code) -> TransactionFault {
    let fenced = [
        Known::RD_KAFKA_RESP_ERR__FENCED,
        Known::RD_KAFKA_RESP_ERR_PRODUCER_FENCED,
        Known::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH,
    ];
    let lasting = [
        Known::RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        Known::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED,
        Known::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED,
        Known::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
        Known::RD_KAFKA_RESP_ERR_INVALID_TRANSACTION_TIMEOUT,
        Known::RD_KAFKA_RESP_ERR_OFFSET_METADATA_TOO_LARGE,
        Known::RD_KAFKA_RESP_ERR_INVALID_GROUP_ID,
        Known::RD_KAFKA_RESP_ERR_UNSUPPORTED_VERSION,
        Known::RD_KAFKA_RESP_ERR_UNSUPPORTED_FOR_MESSAGE_FORMAT,
        Known::RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE,
    ];
    let among = |codes: &[Known]| codes.iter().any(|known| Code::of(*known) == code);
    if among(&fenced) {
        TransactionFault::Fenced
    } else if among(&lasting) {
        TransactionFault::Lasting
    } else {
        TransactionFault::Other
    }
}

/// What an operator can do about an error, as the end of a sentence.
pub(crate) fn remedy(code: Code) -> &'static str {
    use Known as K;
    let of = |known: K| Code::of(known) == code;
    if of(K::RD_KAFKA_RESP_ERR__TRANSPORT)
        || of(K::RD_KAFKA_RESP_ERR__TIMED_OUT)
        || of(K::RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)
        || of(K::RD_KAFKA_RESP_ERR__RESOLVE)
    {
        "; check `bootstrap`, the network, and that the brokers' advertised listeners can be reached from here"
    } else if of(K::RD_KAFKA_RESP_ERR__AUTHENTICATION) || of(K::RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED) {
        "; check the user and the password or token in [broker.librdkafka]"
    } else if of(K::RD_KAFKA_RESP_ERR__SSL) {
        "; check the certificates in [broker.librdkafka], and that the port speaks TLS"
    } else if of(K::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED)
        || of(K::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED)
        || of(K::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED)
    {
        "; `pointsman check --acls` prints the permissions that the routes need"
    } else if of(K::RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED) {
        "; allow this user to describe and to write the transactional id"
    } else if of(K::RD_KAFKA_RESP_ERR_INVALID_TRANSACTION_TIMEOUT) {
        "; raise the brokers' `transaction.max.timeout.ms`"
    } else if of(K::RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE) || of(K::RD_KAFKA_RESP_ERR_UNSUPPORTED_VERSION) {
        "; the brokers are too old for it, or are none of Apache Kafka's"
    } else if of(K::RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID) {
        "; another process runs with the same `instance_id`: give each its own"
    } else if of(K::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE) || of(K::RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE) {
        "; raise the topic's `max.message.bytes`, and `max_record_size` in [router]"
    } else if no_such_topic(code) {
        "; create it, or restart the router, which makes its retry and dead-letter topics"
    } else {
        ""
    }
}

/// Whether records can't be removed since their topic is compacted, and nothing else.
pub(crate) fn compacted_only(code: Code) -> bool {
    code == Code::of(Known::RD_KAFKA_RESP_ERR_POLICY_VIOLATION)
}

/// Whether a group's offsets can't be set since it has members.
pub(crate) fn group_in_use(code: Code) -> bool {
    use Known as K;
    [
        K::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID,
        K::RD_KAFKA_RESP_ERR_NON_EMPTY_GROUP,
        K::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS,
    ]
    .into_iter()
    .any(|known| Code::of(known) == code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_records_own_faults_are_refused() {
        for (code, fault) in [
            (Known::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, DeliveryFault::Batch),
            (Known::RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE, DeliveryFault::Batch),
            (Known::RD_KAFKA_RESP_ERR_INVALID_RECORD, DeliveryFault::Record),
            // The client's knowledge of a topic is minutes old, and a broker that comes back may know less.
            (Known::RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION, DeliveryFault::Other),
            // A neighbour in the batch was at fault.
            (Known::RD_KAFKA_RESP_ERR__INVALID_DIFFERENT_RECORD, DeliveryFault::Other),
            (Known::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, DeliveryFault::Other),
            (Known::RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC, DeliveryFault::Other),
            (Known::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, DeliveryFault::Other),
            (Known::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS, DeliveryFault::Other),
            (Known::RD_KAFKA_RESP_ERR__PURGE_QUEUE, DeliveryFault::Other),
        ] {
            assert_eq!(delivery_fault(Code::of(code)), fault, "{code:?}");
        }
    }

    #[test]
    fn a_transaction_is_tried_again_unless_its_id_or_its_rights_are_gone() {
        for (code, fault) in [
            (Known::RD_KAFKA_RESP_ERR__FENCED, TransactionFault::Fenced),
            (Known::RD_KAFKA_RESP_ERR_PRODUCER_FENCED, TransactionFault::Fenced),
            (Known::RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED, TransactionFault::Lasting),
            (Known::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED, TransactionFault::Lasting),
            (Known::RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE, TransactionFault::Lasting),
            (Known::RD_KAFKA_RESP_ERR_INVALID_TXN_STATE, TransactionFault::Other),
            (Known::RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS, TransactionFault::Other),
            (Known::RD_KAFKA_RESP_ERR__TIMED_OUT, TransactionFault::Other),
        ] {
            assert_eq!(transaction_fault(Code::of(code)), fault, "{code:?}");
        }
    }

    #[test]
    fn a_code_that_nobody_knows_is_an_outage() {
        for code in [-150, 31_000, i32::MIN, i32::MAX] {
            assert_eq!(delivery_fault(Code(code)), DeliveryFault::Other);
            assert_eq!(fetch_fault(Code(code)), FetchFault::Other);
            assert_eq!(transaction_fault(Code(code)), TransactionFault::Other);
            assert!(!Code(code).describe().is_empty() && !Code(code).to_string().is_empty());
        }
    }
}
