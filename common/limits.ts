import { assert } from './errors.ts';

/**
 * Every bound of the system, with its unit at the end of its name. What an operator may change is in the
 * configuration and defaults to a value here; what is fixed by a format says so.
 */

const KIB = 1024;
const MIB = 1024 * KIB;

/** Format: records start and superblocks end on this boundary. */
export const RECORD_ALIGN_BYTES = 8;
export const SUPERBLOCK_BYTES = 4096;
/** Format: one CRC for each of these in a payload that is larger than one. */
export const CHUNK_BYTES = 64 * KIB;
/** Format: a slot word keeps 27 bits of offset / 8. */
export const BLOCK_BYTES_MAX = 1024 * MIB;
export const BLOCK_BYTES_DEFAULT = 64 * MIB;
export const BLOCK_BYTES_MIN = 64 * KIB;

export const PICTURE_BYTES_MAX_DEFAULT = 16 * MIB;
/** Format: aliases a block may hold. */
export const ALIASES_PER_BLOCK_MAX = 65_536;
export const REPLICAS_MAX = 8;
export const SERVERS_MAX = 4096;

/** Group commit: what one write and one fdatasync carry at most (or one record, if it is larger). */
export const BATCH_BYTES_MAX = MIB;
export const BATCH_RECORDS_MAX = 512;
export const OPEN_BLOCKS_DEFAULT = 2;
export const SPARE_BLOCKS_DEFAULT = 4;
export const SPARE_FILL_BYTES_PER_SECOND_BUSY = 16 * MIB;

/** What a replica that lacks records asks another one for at a time. */
export const FETCH_BYTES = 8 * BATCH_BYTES_MAX;
/** Queued for one block: about a third of a batch on the wire and another one waiting. */
export const SHORT_BACKLOG_BYTES = 384 * KIB;

/** One sequential read of a walk over a block. */
export const WALK_BUFFER_BYTES = MIB;

export const OPS_LOG_BYTES_MAX = 4 * MIB;
/** Operations whose opId is remembered in a snapshot. */
export const RECENT_OPS_MAX = 1024;
export const OPS_RESERVE_BYTES = MIB;
/** Slots in one PURGE_INTENT; more are ordered as several. */
export const PURGE_SLOTS_PER_OP_MAX = 16_384;
/** The newest operations of a log that stay in memory for members that are a little behind. */
export const OPS_TAIL_OPS_MAX = 256;
/** Blocks of which the sequencer keeps what it knows of their members while nothing is ordered. */
export const OPS_LANES_KEPT_MAX = 4096;
/** Ops logs whose folded state stays in memory. */
export const OPS_LOGS_WARM_MAX = 128;

/** Frames: header and payload together; a picture, a batch, or a page of a block report fits. */
export const FRAME_BYTES_MAX = 64 * MIB + 64 * KIB;
export const FRAME_HEADER_BYTES_MAX = 4 * MIB;
export const HANDSHAKE_MS_MAX = 5_000;
export const CALLS_IN_FLIGHT_PER_CONNECTION_MAX = 4096;
export const CONNECTIONS_PER_SERVER_MAX = 4096;
/** Connections that have not proved themselves yet; past it the oldest of them goes. */
export const HANDSHAKES_PER_SERVER_MAX = 512;
/** A connection and its handshake. */
export const DIAL_MS_MAX = 2_000;
/** After a failed dial, doubled each time: until then calls to that address fail at once. */
export const DIAL_BACKOFF_MS_MIN = 50;
export const DIAL_BACKOFF_MS_MAX = 1_000;
/** A silent peer that leaves a PING unanswered this long is gone. */
export const PROBE_MS_MAX = 1_000;
/** Answers queued on one connection before the server stops reading requests from it. */
export const CONNECTION_OUT_BYTES_MAX = 32 * MIB;

export const UPLOAD_BYTES_IN_FLIGHT_GATEWAY_MAX = 256 * MIB;
export const UPLOAD_BYTES_IN_FLIGHT_DATASERVER_MAX = 64 * MIB;
export const MULTIPART_PARTS_MAX = 100;
export const URL_BYTES_MAX = 2048;
export const HTTP_HEADER_BYTES_MAX = 16 * KIB;
export const IDEMPOTENCY_KEY_BYTES_MAX = 255;
export const SUFFIX_BYTES_MAX = 64;
/** A name with its suffix in a request to the REST interface of TFS; gateways that one answer lists for its clients. */
export const TFS_REST_NAME_BYTES_MAX = 256;
export const TFS_LIST_SERVERS_MAX = 1_000;
/** Bodies up to this are verified whole before the first byte leaves; larger ones by chunk. */
export const WHOLE_READ_BYTES_MAX = MIB;

/** A server drains and closes within this; the process manager kills it a little later. */
export const STOP_MS_MAX = 15_000;
export const KILL_AFTER_MS = 20_000;
/** A DataServer that stops waits this long for the seal of what was being written on it. */
export const LEAVE_MS_MAX = 5_000;
/** And then this long for the word that the seals are complete. */
export const LEAVE_PROVE_MS_MAX = 500;
/** And this long for a NameServer to take note that it is gone. */
export const FAREWELL_MS_MAX = 300;

/**
 * The lock that says which NameServer tries to lead. A leader renews it every {@link LOCK_EVERY_MS}, so it lasts for
 * several lost answers, and a standby gets it that long after the leader was last heard.
 */
export const LOCK_TTL_MS = 1_200;
export const LOCK_EVERY_MS = 250;
export const LOCK_CALL_MS_MAX = 250;
/** One NameServer asks the other. */
export const PEER_CALL_MS_MAX = 250;
export const HAND_OVER_MS_MAX = 150;
/** Without the lock's store and without a leader in sight, NameServer 0 leads after this, NameServer 1 after twice this. */
export const SELF_PROMOTE_MS = 3_000;
/** Doubled each time that it turned out that somebody else led. */
export const SELF_PROMOTE_MS_MAX = 60_000;
/** A leader tells the other NameServer this often that it leads. */
export const TELL_PEER_MS = 1_000;
/** A NameServer that could not store its epoch lets the other one try for this long. */
export const DRAW_AGAIN_MS = 1_000;
/** A leader that has been without a complete view for this long hands over to a NameServer that has one. */
export const UNABLE_MS_MAX = 1_500;
/**
 * A leader that was able to lead, and has been without a complete view for this long, lets the lock go where the other
 * NameServer does not answer, and does not ask for it for as long.
 */
export const CUT_OFF_MS_MAX = 3_000;
/** What the other NameServer did not take is told again after this. */
export const TELL_AGAIN_MS = 5_000;
/** Fresh questions to all DataServers: whether their promise still stands. */
export const PROMISE_ROUND_MS_MAX = 500;

export const HEARTBEAT_MS = 1_000;
/** A DataServer is chosen for new blocks only while its last heartbeat is younger. */
export const ELIGIBLE_HEARTBEAT_AGE_MS_MAX = 2_500;
export const SERVER_DOWN_AFTER_MS = 5_000;
export const SUSPECT_LINK_MS = 60_000;
/** A disk whose probe writes take longer than this is slow, and so until they take less than that. */
export const DISK_SLOW_MS = 300;
export const DISK_STEADY_MS = 150;
/** A disk that has become slow leaves the write sets it is in after this: by then the leader gives it no new ones. */
export const SLOW_DISK_LEAVES_MS = 2_000;
/** And not again before this: new blocks may be placed on it all the same. */
export const SLOW_DISK_AGAIN_MS = 60_000;
export const PROVISIONAL_AFTER_MS = 3_000;
export const MEMBER_ACK_MS_MAX = 1_000;
/** An answer that is noticed later than this behind its deadline was missed by this process, and not by the peer. */
export const OWN_STALL_MS_MIN = 500;
/** A batch that found the connection to a member full is sent again after this. */
export const SEND_AGAIN_MS = 10;
export const REAPPEND_MS_MAX = 3_000;
export const OPEN_BLOCK_AGE_MS_MAX = 24 * 3600 * 1000;
/** A primary ends its sessions by itself at their age; so much later the leader does, where one does not. */
export const OPEN_BLOCK_OVERDUE_MS = 3600 * 1000;
export const UNDELETE_WINDOW_MS_DEFAULT = 3 * 24 * 3600 * 1000;
/** So that a second after a delete nobody shows the picture, the way to a cache and back included. */
export const HOT_PICTURE_CHECK_MS = 800;
/** One whose flags nobody has asked for in that time is let go of: it may have been erased. */
export const HOT_PICTURE_UNCHECKED_MS_MAX = 60_000;
export const HOT_PICTURE_SWEEP_MS = 5_000;

/** What the map of a NameServer counts deleted bytes of a block in: two bytes are enough for a block of a gigabyte. */
export const DEAD_UNIT_BYTES = 64 * 1024;

/** Of a report of all blocks: about 100 bytes an entry, far below a frame. */
export const REPORT_ENTRIES_PER_FRAME_MAX = 20_000;
/** Block counters a NameServer reserves durably at a time. */
export const COUNTER_RESERVE = 256;
export const COUNTERS_PER_SERIES = 65_536;
export const SERIES_MAX = 32_767;

/** A leader that has just started waits this long for known members before it opens blocks with fewer replicas. */
export const START_WAIT_MS = 3_000;
/** An OPEN block with fewer replicas than wanted is sealed once a full write set has been possible for this long. */
export const SMALL_BLOCK_MS = 30_000;
/** A block that was given out and that no DataServer reports is asked about after this. */
export const OPENING_MS_MAX = 60_000;
/** Blocks of one primary that are not sealed yet; more are not opened for it. */
export const UNSETTLED_BLOCKS_PER_SERVER_MAX = 1024;
export const SEALS_RUNNING_MAX = 16;
/** Sessions of one pair of DataServers that failed within a minute: then no block is placed on both for a while. */
export const PAIR_FAILURES_PER_MINUTE_MAX = 4;
export const PAIR_HOLD_MS_MIN = 60_000;
/** The while is doubled each time, up to this, and forgotten when nothing failed for as long again. */
export const PAIR_HOLD_MS_MAX = 5 * 60_000;
/** A restart explains the failures before it; not the third one within this. */
export const PAIR_RESTARTS_MS = 5 * 60_000;
export const PAIR_RESTARTS_MAX = 2;
export const SEAL_RETRY_MS_MIN = 250;
export const SEAL_RETRY_MS_MAX = 15_000;
/** A seal is decided without the members that have not answered after this, where a clean copy has. */
export const SEAL_PATIENCE_MS = 30_000;
/** A server that was silent for this long is not waited for any more. */
export const DEAD_MS = 10 * 60_000;
/** Wall clocks that are further apart are not taken for right. Messages may be on their way for some of it. */
export const CLOCK_AHEAD_MS_MAX = 60_000;
/** A disk that refuses probe writes for so long is not waited for any more. */
export const DISK_FAILED_MS = 5_000;
/** Sooner than this a restart would be taken for a death. */
export const DEAD_MS_MIN = 20_000;
/** Replicas that contradict what was sealed are looked at again after this: a person has to. */
export const SEAL_CONTRADICTED_RETRY_MS = 10 * 60_000;
/** An OPEN block whose primary was silent for this long is sealed: whatever it still writes, the members refuse then. */
export const PRIMARY_SILENT_MS_MAX = 30_000;
/** A FENCE may have to walk a recovered block, a SEAL to fetch most of one. */
export const FENCE_MS_MAX = 30_000;
export const SEAL_MS_MAX = 60_000;
/** A replica whose operations stay behind for this long is told to fetch them. */
export const OPS_BEHIND_MS = 3_000;
export const OPS_SYNCS_RUNNING_MAX = 8;
/** One step of a change of a block's configuration, on one member. */
export const RECONFIGURE_STEP_MS_MAX = 2_000;
export const RECONFIGURE_MS_MAX = 5_000;
export const RECONFIGURES_RUNNING_MAX = 16;
/** Between two tries to take a returned replica into its block's configuration; doubled each time. */
export const ATTACH_RETRY_MS_MIN = 500;
export const ATTACH_RETRY_MS_MAX = 60_000;
/** A server that could not take part in a new configuration is done without for so long, if it can be; doubled each time. */
export const AILING_MS_MIN = 5_000;
/** A replica that was about to be left out, and was not, counts again after this. */
export const DOUBT_MS_MAX = 10_000;
/** A member that did not take operations is not waited for again for this long. */
export const OPS_MEMBER_FAILED_MS = 2_000;
/** What the sequencer of a block's operations waits for its own disk before others go on without it. */
export const OPS_OWN_DISK_MS_MAX = 1_500;
/** A question to the sequencer's own server before another member asks to take its place. */
export const CAN_ORDER_MS_MAX = 300;
/** Replicas that the leader has made whole at a time; of them on one DataServer. */
export const REPAIRS_RUNNING_MAX = 8;
export const REPAIRS_PER_SERVER_MAX = 2;
/** Damaged replicas that are seen to at a time; more wait in the map. */
export const REPAIR_TASKS_MAX = 1024;
/** A repair copies one block, perhaps all of it from another server. */
export const REPAIR_MS_MAX = 300_000;
export const REPAIR_RETRY_MS_MIN = 500;
export const REPAIR_RETRY_MS_MAX = 60_000;
/** Records that nobody had are asked for again this much later: a disk may have come back. */
export const REPAIR_LOST_RETRY_MS = 600_000;
/** What a disk fails to read for so long is given up where nobody else has it. */
export const REPAIR_UNREAD_MS = 3_600_000;
/** After a repair, until the replica's own report is sure to have come. */
export const REPAIRED_QUIET_MS = 3_000;
/** Blocks that the leader compacts at a time. */
export const COMPACTIONS_RUNNING_MAX = 2;
/** Blocks that one DataServer rewrites at a time because of jobs; there is room for what an operator wants beside them. */
export const COMPACTIONS_PER_SERVER_MAX = 2;
export const COMPACTION_TASKS_MAX = 256;
/** Share of a block that has to be garbage before it is compacted. */
export const COMPACT_GARBAGE_PERCENT_DEFAULT = 15;
/** Of one replica, written and read back. */
export const COMPACT_BYTES_PER_SECOND_DEFAULT = 32 * MIB;
export const COMPACT_BYTES_PER_SECOND_MIN = 8 * MIB;
/** What the wire has room for. */
export const COMPACT_BYTES_PER_SECOND_MAX = 0xffff_ffff;
/** Making the next file of one block, at that rate. */
export const PREPARE_GENERATION_MS_MAX = 300_000;
/** All steps of a compaction: every member reads and writes the whole block. */
export const COMPACT_MS_MAX = 2 * PREPARE_GENERATION_MS_MAX;
export const PURGE_MS_MAX = 15_000;
export const COMPACT_RETRY_MS_MIN = 2_000;
export const COMPACT_RETRY_MS_MAX = 10 * 60_000;
/** A block in which too little may be purged yet is asked about again after this. */
export const COMPACT_AGAIN_MS = 10 * 60_000;
/** Where its sequencer knows that it takes longer, after at most this. */
export const COMPACT_AGAIN_MS_MAX = 6 * 3600_000;
/** Such blocks that are remembered. */
export const COMPACT_LATER_BLOCKS_MAX = 65_536;
/** Next files of blocks on one DataServer that are being made, or wait for the word that all replicas made the same. */
export const PREPARED_GENERATIONS_MAX = 4;
/** One that nobody has asked for after this is given up. */
export const PREPARED_MS_MAX = 15 * 60_000;
/** A file that a compaction has replaced is kept this long. */
export const OLD_GENERATION_MS = 30_000;

/** Slots of one block, and blocks, that one message of an erasure names. */
export const ERASE_SLOTS_MAX = 4096;
export const ERASE_BLOCKS_MAX = 4096;
/** One answer about where a content is: how long it is looked for, and how many names are told. */
export const FIND_CONTENT_MS = 500;
export const FIND_CONTENT_NAMES_MAX = 65_536;
/** An erasure waits on the DataServer for what it removes; the leader waits for all of them. */
export const CLEAR_TRACES_MS_MAX = 60_000;
export const ERASE_RETRY_MS = 500;
/** Records whose erasure a leader remembers until it can be done. */
export const NOTED_ERASURES_SLOTS_MAX = 65_536;
/** Every disk is looked through again. */
export const ERASE_LOOK_AGAIN_MS = 2_000;
/** Blocks that a DataServer was asked to fence and does not have: so many it remembers not to make. */
export const FORBIDDEN_CREATIONS_MAX = 4096;
/** A member that does not report a block may be about to. */
export const REPLICA_ABSENT_MS = 5_000;
/** Some records for another replica, checked before they leave. */
export const READ_RAW_MS_MAX = 15_000;
/** Work that the planner lists at a time; more of it is counted and found again in the next round. */
export const WANTED_MAX = 2048;
/**
 * Of the block map, looked at by the planner in one step: about ten milliseconds of one core. Blocks of which more than
 * that is looked at.
 */
export const PLANNED_ROWS_PER_STEP_MAX = 2 * 65_536;
export const PLANNED_BLOCKS_PER_STEP_MAX = 4096;
/** A job that failed is tried again after this, doubled each time, and after so many attempts parked. */
export const JOB_ATTEMPTS_MAX = 3;
export const JOB_BACKOFF_MS = 2_000;
/** Parked jobs of one DataServer that are kept to be looked at, and for how long. */
export const PARKED_JOBS_KEPT_MAX = 200;
export const PARKED_JOBS_KEPT_MS = 7 * 24 * 3600 * 1000;
/** Work that failed so often on one DataServer is not tried there again for this long. */
export const JOB_PARKED_MS = 10 * 60_000;
/** Failures that a leader remembers, by block and DataServer. */
export const PARKED_MAX = 4096;
/** Jobs under way at a time, in the whole cluster. */
export const GRANTS_MAX = 8192;
/** A job is given up after this, and the time that its bytes take; the leader waits a little longer. */
export const JOB_MS_MIN = 10 * 60_000;
export const JOB_GRANT_SLACK_MS = 10_000;
/** The replica that a job has made is reported within this. */
export const JOB_REPORTED_MS = 15_000;
/** Jobs that wait in the queue of one DataServer; more is queued when these are done. */
export const QUEUED_JOBS_PER_SERVER_MAX = 32;
/** Of these, places that are kept for urgent work. */
export const QUEUED_URGENT_PLACES = 16;
/** A job that was queued and not taken is queued again after this; at once when its queue is empty. */
export const QUEUED_AGAIN_MS = 5 * 60_000;
/** How often the leader looks at the queues. */
export const QUEUE_FILL_MS = 2_000;
/** The rate of jobs is taken over this. */
export const JOB_RATE_MS = 60_000;
/** Blocks with one copy that are copied at a time without a queue. */
export const DIRECT_JOBS_RUNNING_MAX = 2;
export const JOBS_PER_SERVER_DEFAULT = 2;
export const JOB_BYTES_PER_SECOND_DEFAULT = 100 * MIB;
export const JOB_BYTES_PER_SECOND_MIN = 64 * KIB;
export const QUEUE_CALL_MS_MAX = 2_000;
/** A worker that shows no sign of life for this long has lost its job to another. */
export const JOB_LOCK_MS = 30_000;
/** A damaged file is kept this long after it was replaced, unless the disk is nearly full. */
export const TRASH_MS_DEFAULT = 24 * 3600 * 1000;
export const TRASH_FREE_PERCENT_MIN = 5;
export const TRASH_PURGE_MS = 10_000;
/** A disk that failed to read what a block begins with when the server started may read it later. */
export const QUARANTINED_AGAIN_MS = 60_000;
/** What a DataServer remembers of the replicas that it has let go of: as many as a disk of 16 TiB has blocks. */
export const DROP_LOG_ENTRIES_MAX = 262_144;
export const DROP_LOG_KEEP_MS = 180 * 24 * 3600 * 1000;
/** Replicas that nobody needs are let go of so many at a time; of them on one DataServer. */
export const DROPS_RUNNING_MAX = 8;
export const DROPS_PER_SERVER_MAX = 2;
/** Blocks that wait for such a replica to know that it is left out; more wait in the map. */
export const DROPS_WAITING_MAX = 256;
/** Blocks that the leader looks at in one turn, for replicas that nobody needs. */
export const DROP_LOOKS_PER_TURN_MAX = 1024;
/**
 * Between two tries of one block, doubled with each that failed. The first is longer than a replica believes that it is
 * current, and shorter than {@link DOUBT_MS_MAX}.
 */
export const DROP_RETRY_MS_MIN = 3_500;
export const DROP_RETRY_MS_MAX = 60_000;
/** Blocks are moved between disks of which the used shares differ by more than this. */
export const BALANCE_PERCENT_MAX = 4;
/**
 * Of copies too many that on a disk that is fuller by more than this goes. Less than {@link BALANCE_PERCENT_MAX}, so that
 * a copy that was made to even disks out is not the one too many when it is there.
 */
export const FULLER_PERCENT_MIN = 2;
/** The removal of a replica on one DataServer. */
export const DROP_MS_MAX = 10_000;
/** Replicas that one DataServer reads through at a time because somebody asked for it. */
export const VERIFIES_RUNNING_MAX = 2;
/** Reading all of one replica. */
export const VERIFY_MS_MAX = 120_000;
/** Each replica is read through, to find what has rotted, once in this. */
export const SCRUB_PASS_MS_DEFAULT = 7 * 24 * 3600 * 1000;
/** A pass aims to be over after this share of its time: a disk that is read a lot takes longer. */
export const SCRUB_AIM_PERCENT = 90;
/** What was being written when the last process ended goes first. */
export const SCRUB_FIRST_MS = 60_000;
export const SCRUB_LOOK_MS = 60_000;
/** One read of a scrub; reads of pictures wait behind at most one. */
export const SCRUB_PIECE_BYTES = 256 * KIB;
export const SCRUB_BYTES_PER_SECOND_MIN = MIB;
/** Also of one that is late. */
export const SCRUB_BYTES_PER_SECOND_DEFAULT = 32 * MIB;
/** Replicas that are read at a time when it is to be over soon: reading one and checking another. */
export const SCRUBS_AT_FULL_SPEED = 2;
/** A scrub rests when reads beside it take this many per cent of what 99 of 100 of them take without it ... */
export const SCRUB_READS_PERCENT_MAX = 125;
/** ... and this much longer: less is noise. */
export const SCRUB_READS_EXTRA_MS_MIN = 0.5;
/** How long it rests after each piece; doubled as long as that is not enough. */
export const SCRUB_REST_MS_MIN = 20;
export const SCRUB_REST_MS_MAX = 10_000;
/** A heartbeat names the replicas that were read through lately. */
export const SCRUBBED_MS = 2_500;
export const SCRUBBED_BLOCKS_MAX = 256;
/** A replica that was not read for so many per cent of the time of a pass is overdue: the leader is told, ... */
export const OVERDUE_PASS_PERCENT = 125;
/** ... of at most so many, those that were read longest ago, which are looked for this often. */
export const OVERDUE_BLOCKS_MAX = 32;
export const OVERDUE_LOOK_MS = 30_000;
/** A job that reads an overdue replica rests no longer than this in all: then it makes room for other jobs. */
export const SCRUB_JOB_REST_MS_MAX = 30_000;
/** Blocks whose replicas are to be compared, at most; of those that are beyond it, another replica is scrubbed later. */
export const DIGEST_CHECKS_WAITING_MAX = 4096;
export const DIGEST_CHECKS_RUNNING_MAX = 4;
/** A block that was compared is not compared again before this; one that disagreed is, each time after twice as long. */
export const DIGEST_CHECK_AGAIN_MS = 30_000;
export const DIGEST_CHECK_AGAIN_MS_MAX = 3600_000;
export const DISAGREEING_BLOCKS_MAX = 1024;
/** What the files of a mount take is added up this often, or less often where it takes long. */
export const SPACE_FIRST_MS = 2_000;
export const SPACE_EVERY_MS = 20_000;
/** Of the time, to look at every file. */
export const SPACE_SHARE_PERCENT_MAX = 2;
/** A table that differs from what was reported, time and again, is asked for at most this often. */
export const DRIFT_REPORT_MS_MIN = 30_000;
/**
 * Names whose state changed are kept in memory by a DataServer for caches in front of gateways: those of a day, and an hour
 * more for clocks that differ. At 30 bytes each.
 */
export const CHANGES_KEPT_MS = 25 * 3600 * 1000;
export const CHANGES_KEPT_MAX = 1 << 19;
/** In one answer; and how long reading the cookies of these may take. */
export const CHANGES_PER_ANSWER_MAX = 1024;
export const CHANGES_ANSWER_MS = 500;

/** Caches in front that one configuration names, and headers that it adds for each. */
export const PURGE_CACHES_MAX = 16;
export const PURGE_HEADERS_MAX = 16;
export const PURGE_TIMEOUT_MS_DEFAULT = 2_000;
export const PURGE_TIMEOUT_MS_MAX = 60_000;
export const PURGE_CONCURRENCY_DEFAULT = 8;
export const PURGE_CONCURRENCY_MAX = 64;
export const PURGE_BATCH_DEFAULT = 100;
export const PURGE_BATCH_MAX = 1_000;
/** Levels of caches, one behind the other; how long those of a level wait for those that they ask. */
export const PURGE_TIERS_MAX = 4;
export const PURGE_TIER_MS_MAX = 500;
/** A webhook waits this long for more names. */
export const PURGE_BATCH_MS = 15;
export const PURGE_SCAN_MS_DEFAULT = 30_000;
export const PURGE_SCAN_MS_MIN = 1_000;
/** Names that wait for a place among the requests to one cache; more are handed to the queue. */
export const PURGES_WAITING_MAX = 4_096;
/** Purges that one worker knows of and that are not known as done: 200 bytes each. What is beyond is asked for again later. */
export const PURGES_OUTSTANDING_MAX = 65_536;
/** Of these, in the queue of one cache at a time. */
export const PURGES_QUEUED_MAX = 2_000;
/** Looked up, or put into one queue, at a time. */
export const PURGES_AT_A_LOOK_MAX = 500;
/** What is in the queue and not done is put there again after this; nothing happens where it still is. */
export const PURGE_QUEUED_AGAIN_MS = 5 * 60_000;
/** A purge that failed is tried again after this, doubled up to that, for a day. */
export const PURGE_RETRY_MS_MIN = 1_000;
export const PURGE_RETRY_MS_MAX = 30_000;
export const PURGE_GIVEN_UP_MS = 24 * 3600 * 1000;
export const PURGE_ATTEMPTS_MAX = PURGE_GIVEN_UP_MS / PURGE_RETRY_MS_MAX;
/** While something is outstanding it is looked at this often. */
export const PURGE_LOOK_MS = 1_000;
/** How long Redis remembers that a purge was done: longer than a DataServer tells of the change. */
export const PURGE_DONE_KEPT_MS = 27 * 3600 * 1000;
/** Purges that a worker itself remembers as done. */
export const PURGES_DONE_KEPT_MAX = 131_072;
/** A cache that could not be purged for this long is a finding. */
export const PURGE_FAILING_MS = 5 * 60_000;
export const CHECKPOINT_MS = 3_000;
/** More new series of block ids than this in an hour is an alarm. */
export const NEW_SERIES_PER_HOUR_MAX = 8;

export const RPC_MS_DEFAULT = 5_000;
export const CLIENT_BUDGET_MS_DEFAULT = 10_000;
export const CLIENT_ATTEMPTS_MAX = 12;
/** Of one upload: a refusal comes fast, so there are rounds of a few servers with pauses, which last for seconds. */
export const PUT_ATTEMPTS_MAX = 24;
export const PUT_ATTEMPTS_PER_ROUND_MAX = 3;
/** A client asks the next replica when one has not answered for this long; the last one gets the rest. */
export const READ_ATTEMPT_MS_MAX = 1_500;
export const READ_ROUNDS_MAX = 3;
/** An operation is asked of the next member when one has not answered for this long. */
export const MUTATE_ATTEMPT_MS_MAX = 2_500;
/** A read without an answer for as long as all but one in twenty take is put to a second replica, within these bounds. */
export const HEDGE_MS_MIN = 5;
export const HEDGE_MS_MAX = 250;
/** Second questions among all reads, over time and at once: more of them would feed an overload. */
export const HEDGES_PERCENT_MAX = 8;
export const HEDGES_BURST_MAX = 10;
/** A server whose reads take longer than this, and several times what others take, is asked last. */
export const SLOW_READ_MS_MIN = 50;
export const SLOW_READ_FACTOR = 5;
/** How often one read finds out whether such a server is as fast as the others again. */
export const SLOW_TRIAL_MS = 1_000;
/** A memory-only question. */
export const CHECK_MS_MAX = 500;
/** Between rounds in which every server was tried; doubled each time, with jitter. */
export const CLIENT_BACKOFF_MS_MIN = 50;
export const CLIENT_BACKOFF_MS_MAX = 1_000;
/** A server that failed is asked last for this long; doubled with each failure. */
export const SERVER_BACKOFF_MS_MIN = 100;
export const SERVER_BACKOFF_MS_MAX = 2_000;
export const NAMESERVER_CALL_MS_MAX = 1_500;
/** A NameServer that has not answered for this long is not waited for alone. */
export const NAMESERVER_HEDGE_MS = 150;
/** A server to which a write was sent is asked for a sign of life after this, and given up when there is none by that. */
export const PUT_PING_MS = 300;
export const PUT_SILENT_MS_MAX = 1_000;
/** What a payload adds to that: it may still be on its way. */
export const PUT_WIRE_BYTES_PER_MS_MIN = 16 * KIB;
export const CLUSTER_MAP_REFRESH_MS = 5_000;
export const CLUSTER_MAP_REFRESH_MS_MIN = 200;
export const LOCATION_CACHE_BLOCKS_MAX = 262_144;
/** A larger payload is read in pieces of this, each verified and each from any replica. */
export const READ_PIECE_BYTES = WHOLE_READ_BYTES_MAX;

/** All parts of one multipart request: they are held until the last one has arrived, so that a cut one stores nothing. */
export const MULTIPART_BYTES_MAX = 128 * MIB;
/** Parts of one request that are stored at once. */
export const MULTIPART_STORES_IN_FLIGHT_MAX = 8;
export const UPLOAD_IDLE_MS_MAX = 15_000;
/** An upload may be slow for this long; after it, the average since its start counts. */
export const UPLOAD_RATE_GRACE_MS = 10_000;
export const UPLOAD_BYTES_PER_SECOND_MIN = 2 * KIB;
export const HTTP_HEADERS_MS_MAX = 20_000;
export const HTTP_KEEP_ALIVE_MS = 65_000;
/** A connection on which nothing moves in either direction while a request is under way. */
export const HTTP_IDLE_MS_MAX = 60_000;
/** A gateway says that it is ready after this, also when no NameServer has answered. */
export const READY_WAIT_MS_MAX = 5_000;
/** What is still read, and for how long, from a client whose upload was refused, so that it sees the answer. */
export const LINGER_BYTES_MAX = MIB;
export const LINGER_MS_MAX = 1_000;

/** Tokens and appkeys beside `secrets/token`, and policies that they may have. Each request is compared with all tokens. */
export const TOKENS_MAX = 1_000;
export const UPLOAD_POLICIES_MAX = 200;
/** What an upload waits for the counters in Redis; then its gateway counts alone. */
export const LIMIT_CALL_MS_MAX = 250;

export const INDEX_BUDGET_BYTES_DEFAULT = 512 * MIB;
export const OPEN_FILES_DEFAULT = 4096;
export const KV_CACHE_BYTES_DEFAULT = 64 * MIB;

/** What a process may gather in garbage before V8 marks its whole heap, or that share of what is alive, if it is more. */
export const HEAP_HEADROOM_BYTES = 192 * MIB;
export const HEAP_HEADROOM_PERCENT_MIN = 50;

/** sysexits.h EX_CONFIG: the process manager must not restart a server that refuses to start. */
export const EXIT_REFUSED = 78;

assert(BLOCK_BYTES_MAX / RECORD_ALIGN_BYTES <= 1 << 27, 'an offset fits the 27 bits of a slot word');
assert(SUPERBLOCK_BYTES % RECORD_ALIGN_BYTES === 0, 'the first record is aligned');
assert(CHUNK_BYTES % RECORD_ALIGN_BYTES === 0, 'chunks are aligned');
assert(
  SCRUB_PIECE_BYTES >= 2 * 4 * Math.ceil(BLOCK_BYTES_MAX / CHUNK_BYTES),
  'a piece of a scrub holds the header of any record',
);
assert(COMPACT_MS_MAX <= JOB_MS_MIN, 'a compaction ends before the job that asked for it is given up');
assert(COMPACTIONS_PER_SERVER_MAX < PREPARED_GENERATIONS_MAX, 'jobs leave room for what an operator wants');
assert(SCRUBBED_MS > 2 * HEARTBEAT_MS, 'what was scrubbed is told although a heartbeat is lost');
assert(
  (2 * BLOCK_BYTES_MAX * 1000) / COMPACT_BYTES_PER_SECOND_MIN < PREPARE_GENERATION_MS_MAX,
  'the largest block is rewritten in time at the slowest rate',
);
assert(FULLER_PERCENT_MIN < BALANCE_PERCENT_MAX, 'what was moved stays where it is');
assert(
  PICTURE_BYTES_MAX_DEFAULT * 2 <= BLOCK_BYTES_DEFAULT,
  'a block holds more than one picture of any size',
);
assert(FRAME_BYTES_MAX > BLOCK_BYTES_DEFAULT, 'one record of any default block fits a frame');
assert(ELIGIBLE_HEARTBEAT_AGE_MS_MAX > 2 * HEARTBEAT_MS, 'one lost heartbeat excludes nobody');
assert(
  PREPARED_MS_MAX > PREPARE_GENERATION_MS_MAX,
  'what one member has made waits for the slowest of the others',
);
assert(LOCK_TTL_MS > 3 * LOCK_EVERY_MS + LOCK_CALL_MS_MAX, 'a leader that misses two answers keeps the lock');
assert(PROMISE_ROUND_MS_MAX * 2 < NAMESERVER_CALL_MS_MAX, 'a question that waits for two rounds is answered');
assert(DISK_STEADY_MS < DISK_SLOW_MS, 'a disk between the two stays what it is');
assert(SERVER_DOWN_AFTER_MS > ELIGIBLE_HEARTBEAT_AGE_MS_MAX, 'a server is avoided before it is called down');
assert(SEAL_PATIENCE_MS < DEAD_MS, 'a clean copy makes a seal come sooner');
assert(
  PRIMARY_SILENT_MS_MAX > SERVER_DOWN_AFTER_MS,
  'a primary counts as down before its blocks are taken from it',
);
assert(
  LEAVE_MS_MAX + LEAVE_PROVE_MS_MAX + 2 * FAREWELL_MS_MAX + RPC_MS_DEFAULT < STOP_MS_MAX,
  'a DataServer that waits for seals still stops in time',
);
assert(KILL_AFTER_MS > STOP_MS_MAX, 'a server that stops in time is not killed');
assert(DIAL_MS_MAX < RPC_MS_DEFAULT, 'a call outlives a failed dial');
assert(BATCH_BYTES_MAX <= UPLOAD_BYTES_IN_FLIGHT_DATASERVER_MAX, 'what waits for a commit can fill a batch');
assert(HEDGE_MS_MAX < CHECK_MS_MAX, 'a second replica is asked before the first one is given up');
assert(CHANGES_KEPT_MS > PURGE_GIVEN_UP_MS, 'a change is told as long as its purge is tried');
assert(PURGE_DONE_KEPT_MS > CHANGES_KEPT_MS + 3600_000, 'what is told was not forgotten as done');
assert(PUT_PING_MS < PUT_SILENT_MS_MAX, 'a server has time to answer a PING');
assert(READ_PIECE_BYTES % CHUNK_BYTES === 0, 'pieces of a picture start on a checksum boundary');
assert(MULTIPART_BYTES_MAX < UPLOAD_BYTES_IN_FLIGHT_GATEWAY_MAX, 'one multipart request fits the gateway');
