-- Everything the ledger says to SQLite. Each block is introduced by "name: purpose"; statements.py
-- hands the blocks out by name and Python never builds SQL.
--
-- Times ending in _ns on the wall (created, queued, started, finished, at) are for show and for
-- retention. Only not_before_ns is scheduled by: nanoseconds of CLOCK_BOOTTIME.
-- File names are BLOBs, because a file name need not be text.


-- settings: of every connection; auto_vacuum counts only before the first table is made; a small
-- cache, for the kernel caches too: with 4000 KiB the daemon grew by 3 MiB over its first 2,000 jobs
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA foreign_keys = ON;
PRAGMA trusted_schema = OFF;
PRAGMA cell_size_check = ON;
PRAGMA temp_store = MEMORY;
PRAGMA cache_size = -1000;
PRAGMA wal_autocheckpoint = 1000;
PRAGMA journal_size_limit = 67108864;

-- journal_mode: must read wal; some file systems cannot
PRAGMA journal_mode;

-- durability: must read 2 (FULL); at NORMAL a power cut loses acknowledged commits
PRAGMA synchronous;

-- damage: "ok", or the first thing found wrong; reads every page once
PRAGMA quick_check(1);

-- integrity: "ok", or what is wrong, indexes compared with their tables
PRAGMA integrity_check(20);

-- identity: 1937011812 ("sttd"); 0 in a new file
PRAGMA application_id;

-- version: of the schema; migration_N sets N
PRAGMA user_version;

-- objects: 0 in a new file
SELECT count(*) FROM sqlite_schema;


-- migration_1: jobs, their attempts, what happened to them, and the daemon's own lives
PRAGMA application_id = 1937011812;

CREATE TABLE job (
  seq INTEGER PRIMARY KEY,               -- order of arrival: immune to jumps of the clock
  id TEXT NOT NULL UNIQUE,               -- UUIDv7
  kind TEXT NOT NULL CHECK (kind = 'inbox' OR kind = 'control' OR kind = 'url'),
  name BLOB NOT NULL,
  signature TEXT NOT NULL,               -- JSON; an inode number can exceed SQLite's integers
  sidecar TEXT,                          -- JSON, of the options file
  out_name BLOB UNIQUE,                  -- reserved beneath outbox/; NULL once withdrawn
  options TEXT NOT NULL,
  priority INTEGER NOT NULL,
  key TEXT,
  uid INTEGER,
  state TEXT NOT NULL,
  attempt INTEGER NOT NULL DEFAULT 0,    -- never goes back: names the staging folder
  failures INTEGER NOT NULL DEFAULT 0,
  crashes INTEGER NOT NULL DEFAULT 0,
  interrupted INTEGER NOT NULL DEFAULT 0,
  segments INTEGER NOT NULL DEFAULT 0,
  token TEXT,                            -- fences the attempt that runs
  worker TEXT,
  not_before_ns INTEGER,                 -- CLOCK_BOOTTIME of this boot
  delay_ns INTEGER,                      -- the wish behind it, for a boot to come
  size INTEGER NOT NULL,
  sha256 TEXT,
  duration_s REAL,
  progress_s REAL NOT NULL DEFAULT 0,
  outputs BLOB NOT NULL DEFAULT x'',     -- paths separated by NUL, the manifest last
  original BLOB,
  disposed INTEGER NOT NULL DEFAULT 0 CHECK (disposed = 0 OR disposed = 1),
  error_code TEXT,
  error_message TEXT,
  created_ns INTEGER NOT NULL,
  queued_ns INTEGER,                     -- when it last became queued
  started_ns INTEGER,                    -- when its latest attempt started
  finished_ns INTEGER,
  -- which states there are, and which are final (an IN list would be built anew for each row)
  CHECK ((finished_ns IS NOT NULL) = CASE state
    WHEN 'claiming' THEN 0 WHEN 'queued' THEN 0 WHEN 'running' THEN 0 WHEN 'deferred' THEN 0
    WHEN 'succeeded' THEN 1 WHEN 'failed' THEN 1 WHEN 'cancelled' THEN 1 WHEN 'withdrawn' THEN 1
    ELSE 2 END),
  CHECK ((state = 'running') = (token IS NOT NULL)),
  CHECK ((state = 'deferred') = (not_before_ns IS NOT NULL)),
  CHECK ((state = 'deferred') = (delay_ns IS NOT NULL)),
  CHECK ((state = 'failed') = (error_code IS NOT NULL)),
  CHECK ((state = 'withdrawn') = (out_name IS NULL)),
  CHECK (disposed = 0 OR finished_ns IS NOT NULL)
) STRICT;

CREATE UNIQUE INDEX job_key ON job (key) WHERE key IS NOT NULL;
-- SQLite ends every index with the row's seq: "oldest first" needs no column of its own. The rows
-- that change are few and lie together in small indexes; each page saved saves a write to the WAL.
CREATE INDEX job_open ON job (state, priority DESC) WHERE disposed = 0;
CREATE INDEX job_queued ON job (queued_ns) WHERE state = 'queued';
CREATE INDEX job_wake ON job (not_before_ns) WHERE state = 'deferred';
CREATE INDEX job_ended ON job (state) WHERE finished_ns IS NOT NULL;
CREATE INDEX job_past ON job (finished_ns) WHERE disposed = 1;

-- What others may see of a job, in the order in which rows.py reads it
CREATE VIEW job_row AS SELECT
  seq, id, kind, name, signature, sidecar, out_name, options, priority, key, uid, state, attempt,
  failures, crashes, interrupted, segments, token, worker, size, sha256, duration_s, progress_s,
  outputs, original, disposed, error_code, error_message, created_ns, started_ns, finished_ns
FROM job;

-- The table of core/jobs.py once more, as the last line of defence; a test compares the two
CREATE TRIGGER job_moves BEFORE UPDATE OF state ON job
WHEN NOT CASE old.state
  WHEN 'claiming' THEN new.state = 'queued' OR new.state = 'withdrawn'
  WHEN 'queued' THEN new.state = 'running' OR new.state = 'cancelled' OR new.state = 'failed'
  WHEN 'running' THEN new.state = 'queued' OR new.state = 'deferred' OR new.state = 'succeeded'
    OR new.state = 'failed' OR new.state = 'cancelled'
  WHEN 'deferred' THEN new.state = 'queued' OR new.state = 'cancelled'
  WHEN 'failed' THEN new.state = 'queued'
  WHEN 'cancelled' THEN new.state = 'queued'
  ELSE 0 END
BEGIN
  SELECT RAISE(ABORT, 'a job cannot move between these states');
END;

CREATE TABLE tally (
  state TEXT PRIMARY KEY,
  jobs INTEGER NOT NULL CHECK (jobs >= 0)
) STRICT, WITHOUT ROWID;
INSERT INTO tally VALUES ('claiming', 0), ('queued', 0), ('running', 0), ('deferred', 0),
  ('succeeded', 0), ('failed', 0), ('cancelled', 0), ('withdrawn', 0);
CREATE TRIGGER tally_in AFTER INSERT ON job BEGIN
  UPDATE tally SET jobs = jobs + 1 WHERE state = new.state;
END;
CREATE TRIGGER tally_move AFTER UPDATE OF state ON job BEGIN
  UPDATE tally SET jobs = jobs - 1 WHERE state = old.state;
  UPDATE tally SET jobs = jobs + 1 WHERE state = new.state;
END;
CREATE TRIGGER tally_out AFTER DELETE ON job BEGIN
  UPDATE tally SET jobs = jobs - 1 WHERE state = old.state;
END;

CREATE TABLE stem (
  stem BLOB PRIMARY KEY,                 -- an output name wished for more than once
  last INTEGER NOT NULL,                 -- the highest number given to it
  used_ns INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX stem_used ON stem (used_ns);

CREATE TABLE attempt (
  seq INTEGER PRIMARY KEY,
  job INTEGER NOT NULL REFERENCES job (seq) ON DELETE CASCADE,
  attempt INTEGER NOT NULL,
  worker TEXT NOT NULL,
  code TEXT NOT NULL,
  message TEXT NOT NULL,
  at_ns INTEGER NOT NULL,
  segments INTEGER NOT NULL,
  duration_s REAL
) STRICT;
CREATE INDEX attempt_job ON attempt (job);

CREATE TABLE event (
  seq INTEGER PRIMARY KEY,
  at_ns INTEGER NOT NULL,
  name TEXT NOT NULL,
  job TEXT,                              -- no reference: an event may outlive its job
  worker TEXT,
  fields TEXT NOT NULL                   -- JSON
) STRICT;
CREATE INDEX event_time ON event (at_ns);
CREATE INDEX event_name ON event (name, at_ns);
CREATE INDEX event_job ON event (job, at_ns) WHERE job IS NOT NULL;
CREATE INDEX event_worker ON event (worker, at_ns) WHERE worker IS NOT NULL;

CREATE TABLE epoch (
  epoch INTEGER PRIMARY KEY,             -- one for each time the ledger was opened
  boot_id TEXT NOT NULL,
  pid INTEGER NOT NULL,
  started_ns INTEGER NOT NULL,
  clean_ns INTEGER                       -- NULL: that daemon was killed, or lives
) STRICT;

PRAGMA user_version = 1;


-- migration_2: how each worker's life ended
CREATE TABLE worker_life (
  seq INTEGER PRIMARY KEY,
  worker TEXT NOT NULL,
  pid INTEGER NOT NULL,
  cause TEXT NOT NULL,
  decider TEXT NOT NULL,
  rss_bytes INTEGER,
  peak_rss_bytes INTEGER,
  jobs INTEGER NOT NULL,
  leak_per_job REAL,
  age_s REAL NOT NULL,
  kill_latency_s REAL,
  replacement_latency_s REAL,
  started_ns INTEGER NOT NULL,
  ended_ns INTEGER NOT NULL,
  detail TEXT NOT NULL                   -- JSON
) STRICT;
CREATE INDEX worker_life_ended ON worker_life (ended_ns);
CREATE INDEX worker_life_worker ON worker_life (worker);

PRAGMA user_version = 2;


-- last_epoch: the daemon before this one
SELECT epoch, boot_id, clean_ns FROM epoch ORDER BY epoch DESC LIMIT 1;

-- new_epoch: a daemon opened the ledger
INSERT INTO epoch (boot_id, pid, started_ns) VALUES (:boot_id, :pid, :now);

-- end_epoch: and closed it properly
UPDATE epoch SET clean_ns = :now WHERE epoch = :epoch;

-- rebase_deferred: under another boot the old clock means nothing; nobody waits longer than wished
UPDATE job INDEXED BY job_wake SET not_before_ns = iif(:same_boot, min(not_before_ns, :boottime + delay_ns),
  :boottime + delay_ns) WHERE state = 'deferred';

-- begin: a transaction that will write; no reader can have overtaken it
BEGIN IMMEDIATE;

-- commit: returns when the WAL is on the disk
COMMIT;

-- rollback: nothing of the batch happened
ROLLBACK;

-- savepoint: before one operation of several
SAVEPOINT operation;

-- release: that operation is part of the batch
RELEASE operation;

-- undo: that operation alone did not happen
ROLLBACK TO operation;


-- name_used: is there a job that has reserved this output name?
SELECT 1 FROM job WHERE out_name = :name;

-- out_name: the one that a running job has reserved
SELECT out_name FROM job WHERE id = :job AND state = 'running';

-- rename_output: a stranger's file stands in its place
UPDATE job SET out_name = :name WHERE id = :job AND state = 'running';

-- stem_last: the highest number given for a name that was wished for before
SELECT last FROM stem WHERE stem = :stem;

-- stem_note: remember the number just given
INSERT INTO stem (stem, last, used_ns) VALUES (:stem, :last, :now)
ON CONFLICT (stem) DO UPDATE SET last = excluded.last, used_ns = excluded.used_ns;

-- insert_job: a new one; claiming, or queued when it is found in the spool
INSERT INTO job (id, kind, name, signature, sidecar, out_name, options, priority, key, uid, size,
  state, attempt, segments, created_ns, queued_ns)
VALUES (:id, :kind, :name, :signature, :sidecar, :out_name, :options, :priority, :key, :uid, :size,
  :state, :attempt, :segments, :now, iif(:state = 'queued', :now, NULL))
ON CONFLICT (id) DO NOTHING;

-- accept: the recording is ours (claiming -> queued)
UPDATE job SET state = 'queued', queued_ns = :now WHERE id = :job AND state = 'claiming';

-- withdraw: it vanished before it was ours (claiming -> withdrawn); its name and key are free again
UPDATE job SET state = 'withdrawn', out_name = NULL, key = NULL, finished_ns = :now, disposed = 1
WHERE id = :job AND state = 'claiming';

-- claim: the most urgent, then the oldest, each under a new token (queued -> running)
UPDATE job SET state = 'running', attempt = attempt + 1, token = lower(hex(randomblob(16))),
  worker = NULL, started_ns = :now
WHERE seq IN (SELECT seq FROM job INDEXED BY job_open WHERE disposed = 0 AND state = 'queued'
  ORDER BY priority DESC, seq LIMIT :limit)
RETURNING priority, seq, id, name, out_name, token, attempt, failures, crashes, segments, size,
  duration_s, options;

-- claim_probe: the least tried of the first hundred (queued -> running)
UPDATE job SET state = 'running', attempt = attempt + 1, token = lower(hex(randomblob(16))),
  worker = NULL, started_ns = :now
WHERE seq IN (SELECT seq FROM (SELECT seq, attempt, priority FROM job INDEXED BY job_open
    WHERE disposed = 0 AND state = 'queued' ORDER BY priority DESC, seq LIMIT 100)
  ORDER BY attempt, priority DESC, seq LIMIT :limit)
RETURNING priority, seq, id, name, out_name, token, attempt, failures, crashes, segments, size,
  duration_s, options;

-- assigned: which worker has it, for show
UPDATE job SET worker = :worker WHERE id = :job AND state = 'running' AND token = :token;

-- progress: how far it is, for show
UPDATE job SET progress_s = :position_s WHERE id = :job AND state = 'running' AND token = :token;

-- succeed: its outputs are published (running -> succeeded)
UPDATE job SET state = 'succeeded', token = NULL, outputs = :outputs,
  duration_s = coalesce(:duration_s, duration_s), sha256 = coalesce(:sha256, sha256),
  segments = :segments, progress_s = coalesce(:duration_s, duration_s, progress_s),
  finished_ns = :now
WHERE id = :job AND state = 'running' AND token = :token;

-- requeue: another attempt, now or later (running -> queued, deferred)
UPDATE job SET state = iif(:delay_ns > 0, 'deferred', 'queued'), token = NULL, worker = NULL,
  failures = :failures, crashes = :crashes, segments = :segments,
  interrupted = interrupted + :interrupted,
  queued_ns = iif(:delay_ns > 0, queued_ns, :now),
  not_before_ns = iif(:delay_ns > 0, :boottime + :delay_ns, NULL),
  delay_ns = iif(:delay_ns > 0, :delay_ns, NULL)
WHERE id = :job AND state = 'running' AND token = :token;

-- fail_running: for good (running -> failed)
UPDATE job SET state = 'failed', token = NULL, error_code = :code, error_message = :message,
  finished_ns = :now
WHERE id = :job AND state = 'running' AND token = :token;

-- fail_queued: before it ever ran (queued -> failed)
UPDATE job SET state = 'failed', error_code = :code, error_message = :message, finished_ns = :now
WHERE id = :job AND state = 'queued';

-- cancel: on an operator's wish; one that runs only by who holds its token (-> cancelled)
UPDATE job SET state = 'cancelled', token = NULL, not_before_ns = NULL, delay_ns = NULL,
  finished_ns = :now
WHERE id = :job AND (state IN ('queued', 'deferred') OR (state = 'running' AND token = :token));

-- retry: on an operator's wish, as if new; only the number of starts is kept (-> queued)
UPDATE job SET state = 'queued', failures = 0, crashes = 0, interrupted = 0, segments = 0,
  progress_s = 0, worker = NULL, outputs = x'', original = NULL, disposed = 0, error_code = NULL,
  error_message = NULL, queued_ns = :now, started_ns = NULL, finished_ns = NULL
WHERE id = :job AND state IN ('failed', 'cancelled');

-- disposed: the original has left the spool; not of a job that an operator has since retried
UPDATE job SET disposed = 1, original = :original
WHERE id = :job AND state IN ('succeeded', 'failed', 'cancelled');

-- wake: those whose time has come (deferred -> queued)
UPDATE job SET state = 'queued', not_before_ns = NULL, delay_ns = NULL, queued_ns = :now
WHERE seq IN (SELECT seq FROM job INDEXED BY job_wake
  WHERE state = 'deferred' AND not_before_ns <= :boottime
  ORDER BY not_before_ns LIMIT :limit);

-- next_wake: when the next one's time comes
SELECT not_before_ns FROM job INDEXED BY job_wake WHERE state = 'deferred'
ORDER BY not_before_ns LIMIT 1;

-- interrupted: their daemon ended under them (running -> queued)
UPDATE job SET state = 'queued', token = NULL, worker = NULL, interrupted = interrupted + 1,
  queued_ns = :now
WHERE disposed = 0 AND state = 'running';

-- add_attempt: how one ended
INSERT INTO attempt (job, attempt, worker, code, message, at_ns, segments, duration_s)
SELECT seq, :attempt, :worker, :code, :message, :at_ns, :segments, :duration_s
FROM job WHERE id = :job;

-- forget_attempts: all but the latest; a service that is away for weeks ends attempts for ever
DELETE FROM attempt WHERE job = (SELECT seq FROM job WHERE id = :job) AND seq <= (
  SELECT seq FROM attempt WHERE job = (SELECT seq FROM job WHERE id = :job)
  ORDER BY seq DESC LIMIT 1 OFFSET :keep);

-- add_event: what the daemon announced
INSERT INTO event (at_ns, name, job, worker, fields)
VALUES (:at_ns, :name, :job, :worker, :fields_json);

-- add_life: how a worker's life ended
INSERT INTO worker_life (worker, pid, cause, decider, rss_bytes, peak_rss_bytes, jobs,
  leak_per_job, age_s, kill_latency_s, replacement_latency_s, started_ns, ended_ns, detail)
VALUES (:worker, :pid, :cause, :decider, :rss_bytes, :peak_rss_bytes, :jobs, :leak_per_job,
  :age_s, :kill_latency_s, :replacement_latency_s, :started_ns, :ended_ns, :detail);


-- tally: how many jobs are in each state
SELECT state, jobs FROM tally;

-- oldest_queued: since when the longest-waiting one has been queued
SELECT queued_ns FROM job INDEXED BY job_queued WHERE state = 'queued' ORDER BY queued_ns LIMIT 1;

-- job_by_id: one job
SELECT * FROM job_row WHERE id = :id;

-- job_by_key: the job that was submitted under this idempotency key
SELECT * FROM job_row WHERE key = :key;

-- page_start: where a listing goes on; a job pruned in between is replaced by its next newer one
SELECT seq FROM job WHERE id >= :id ORDER BY id LIMIT 1;

-- page_end: the same for a listing the other way, where the next older one replaces it
SELECT seq FROM job WHERE id <= :id ORDER BY id DESC LIMIT 1;

-- last_seq: of the newest job
SELECT seq FROM job ORDER BY seq DESC LIMIT 1;

-- id_after: of the first job that arrived after this place
SELECT id FROM job WHERE seq > :seq ORDER BY seq LIMIT 1;

-- id_before: of the last job that arrived before this place
SELECT id FROM job WHERE seq < :seq ORDER BY seq DESC LIMIT 1;

-- jobs: those that fit and were ever accepted, newest first
SELECT * FROM job_row WHERE seq > :after AND seq < :before
  AND created_ns >= :since AND created_ns < :until
  AND (:kind IS NULL OR kind = :kind) AND (:name IS NULL OR instr(name, :name) > 0)
  AND (:all OR state NOT IN ('claiming', 'withdrawn'))
ORDER BY seq DESC LIMIT :limit;

-- jobs_up: those that fit, oldest first
SELECT * FROM job_row WHERE seq > :after AND seq < :before
  AND created_ns >= :since AND created_ns < :until
  AND (:kind IS NULL OR kind = :kind) AND (:name IS NULL OR instr(name, :name) > 0)
  AND (:all OR state NOT IN ('claiming', 'withdrawn'))
ORDER BY seq LIMIT :limit;

-- jobs_open: in a state that is not final, newest first; sorts the queue, which has a limit
SELECT * FROM job_row WHERE seq IN (
  SELECT seq FROM job INDEXED BY job_open
  WHERE disposed = 0 AND state = :state AND seq > :after AND seq < :before
    AND created_ns >= :since AND created_ns < :until
    AND (:kind IS NULL OR kind = :kind) AND (:name IS NULL OR instr(name, :name) > 0)
  ORDER BY seq DESC LIMIT :limit)
ORDER BY seq DESC;

-- jobs_open_up: likewise, oldest first
SELECT * FROM job_row WHERE seq IN (
  SELECT seq FROM job INDEXED BY job_open
  WHERE disposed = 0 AND state = :state AND seq > :after AND seq < :before
    AND created_ns >= :since AND created_ns < :until
    AND (:kind IS NULL OR kind = :kind) AND (:name IS NULL OR instr(name, :name) > 0)
  ORDER BY seq LIMIT :limit)
ORDER BY seq;

-- jobs_ended: in a final state, newest first
SELECT * FROM job_row
WHERE finished_ns IS NOT NULL AND state = :state AND seq > :after AND seq < :before
  AND created_ns >= :since AND created_ns < :until
  AND (:kind IS NULL OR kind = :kind) AND (:name IS NULL OR instr(name, :name) > 0)
ORDER BY seq DESC LIMIT :limit;

-- jobs_ended_up: likewise, oldest first
SELECT * FROM job_row
WHERE finished_ns IS NOT NULL AND state = :state AND seq > :after AND seq < :before
  AND created_ns >= :since AND created_ns < :until
  AND (:kind IS NULL OR kind = :kind) AND (:name IS NULL OR instr(name, :name) > 0)
ORDER BY seq LIMIT :limit;

-- all_open: in a state that is not final and holds few, oldest first
SELECT * FROM job_row WHERE disposed = 0 AND state = :state ORDER BY seq;

-- undisposed: finished, the original not yet put away; longest waiting first
SELECT * FROM job_row WHERE disposed = 0 AND state IN ('succeeded', 'failed', 'cancelled')
ORDER BY finished_ns LIMIT :limit;

-- known: which of these ids are jobs
SELECT id FROM job WHERE id IN (SELECT value FROM json_each(:ids));

-- tokens: under which those of these jobs that run are running
SELECT id, token FROM job
WHERE id IN (SELECT value FROM json_each(:ids)) AND state = 'running';

-- similar_start: ids that begin like this; ids are hexadecimal, so "g" follows them all
SELECT id FROM job WHERE id >= :start AND id < :start || 'g' ORDER BY id DESC LIMIT :limit;

-- similar_end: ids that end like this, among the latest
SELECT id FROM (SELECT id FROM job ORDER BY seq DESC LIMIT :latest)
WHERE substr(id, -length(:ending)) = :ending LIMIT :limit;

-- attempts: of one job, first to last
SELECT a.attempt, a.worker, a.code, a.message, a.at_ns, a.segments, a.duration_s
FROM attempt AS a JOIN job ON job.seq = a.job WHERE job.id = :job ORDER BY a.seq;

-- timeline: what happened to one job
SELECT at_ns, name, job, worker, fields FROM event WHERE job = :job ORDER BY at_ns, seq;

-- first_events_by_time: since then, first to last
SELECT at_ns, name, job, worker, fields FROM event
WHERE at_ns >= :since
ORDER BY at_ns, seq LIMIT :limit;

-- first_events_by_name: one kind of event, since then
SELECT at_ns, name, job, worker, fields FROM event
WHERE name = :name AND at_ns >= :since
ORDER BY at_ns, seq LIMIT :limit;

-- first_events_by_job: of one job since then, all or one kind, on all workers or on one
SELECT at_ns, name, job, worker, fields FROM event
WHERE job = :job AND at_ns >= :since
  AND (:name IS NULL OR name = :name) AND (:worker IS NULL OR worker = :worker)
ORDER BY at_ns, seq LIMIT :limit;

-- first_events_by_worker: of one worker since then, all or one kind
SELECT at_ns, name, job, worker, fields FROM event
WHERE worker = :worker AND at_ns >= :since
  AND (:name IS NULL OR name = :name)
ORDER BY at_ns, seq LIMIT :limit;

-- last_events_by_time: the latest, last to first
SELECT at_ns, name, job, worker, fields FROM event
ORDER BY at_ns DESC, seq DESC LIMIT :limit;

-- last_events_by_name: the latest of one kind
SELECT at_ns, name, job, worker, fields FROM event
WHERE name = :name
ORDER BY at_ns DESC, seq DESC LIMIT :limit;

-- last_events_by_job: the latest of one job, all or one kind, on all workers or on one
SELECT at_ns, name, job, worker, fields FROM event
WHERE job = :job
  AND (:name IS NULL OR name = :name) AND (:worker IS NULL OR worker = :worker)
ORDER BY at_ns DESC, seq DESC LIMIT :limit;

-- last_events_by_worker: the latest of one worker, all or one kind
SELECT at_ns, name, job, worker, fields FROM event
WHERE worker = :worker
  AND (:name IS NULL OR name = :name)
ORDER BY at_ns DESC, seq DESC LIMIT :limit;

-- lives: of all workers, latest first
SELECT worker, pid, cause, decider, rss_bytes, peak_rss_bytes, jobs, leak_per_job, age_s,
  kill_latency_s, replacement_latency_s, started_ns, ended_ns, detail
FROM worker_life ORDER BY seq DESC LIMIT :limit;

-- lives_of: of one worker, latest first
SELECT worker, pid, cause, decider, rss_bytes, peak_rss_bytes, jobs, leak_per_job, age_s,
  kill_latency_s, replacement_latency_s, started_ns, ended_ns, detail
FROM worker_life WHERE worker = :worker ORDER BY seq DESC LIMIT :limit;


-- prune_jobs: long finished, and put away; attempts go with them
DELETE FROM job WHERE seq IN (SELECT seq FROM job INDEXED BY job_past
  WHERE disposed = 1 AND finished_ns < :before ORDER BY finished_ns LIMIT :limit);

-- prune_stems: long unused; forgetting one costs a few look-ups and no correctness
DELETE FROM stem WHERE stem IN (SELECT stem FROM stem WHERE used_ns < :before
  ORDER BY used_ns LIMIT :limit);

-- prune_events: long past
DELETE FROM event WHERE seq IN (SELECT seq FROM event WHERE at_ns < :before
  ORDER BY at_ns LIMIT :limit);

-- prune_lives: long past
DELETE FROM worker_life WHERE seq IN (SELECT seq FROM worker_life WHERE ended_ns < :before
  ORDER BY ended_ns LIMIT :limit);

-- prune_epochs: long past, but the present one
DELETE FROM epoch WHERE started_ns < :before AND epoch < (SELECT max(epoch) FROM epoch);

-- free_pages: in the file, unused
PRAGMA freelist_count;

-- shrink: give some of them back to the file system
PRAGMA incremental_vacuum(500);
