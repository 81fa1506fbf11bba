/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A tagged guest as this host's daemon sees it. guest.c owns the objects and changes states;
 * guest_primary.c acts while the guest runs here, guest_backup.c while a shell of it is here.
 */
#ifndef REPLICATOR_GUEST_H
#define REPLICATOR_GUEST_H

#include "replicator/daemon.h"
#include "replicator/domains.h"
#include "replicator/fsm.h"
#include "replicator/frame.h"
#include "replicator/heard.h"
#include "replicator/peer.pb-c.h"
#include "replicator/tags.h"
#include "replicator/untold.h"
#include "replicator/workers.h"

#include <uthash.h>

struct keeper;
struct stream_hello;

enum { GUEST_PROBLEM_MAX = 256 };

struct guest {
	struct daemon *d;
	struct tag tag; /* what is in the file */
	UT_hash_handle hh;
	enum guest_state state;
	uint32_t domid;	      /* of the domain or the shell; 0: none */
	uint64_t since_us;    /* in this state */
	uint64_t deadline_us; /* of this state; 0: none */
	uint64_t retry_at_us;
	unsigned int attempts;
	char problem[GUEST_PROBLEM_MAX];
	unsigned int shell_serial; /* whose answer is still wanted */
	bool finalize;		   /* remove the object when the event is dealt with */
	uint64_t untag_serial;	   /* the peer has untagged it and waits for our word; 0: no */

	struct keeper *keeper;	   /* its record at the witness; NULL: not needed so far */

	/* primary */
	bool recalling;	   /* a switchover whose peer fell silent: the record must say that nobody has claimed it */
	bool unprotecting; /* untagging: the worker was told */
	uint64_t token;
	uint32_t peer_stream_port;
	bool worker_unknown; /* a worker from before this daemon is here and has not said how it
				stands */
	bool drop_told;	     /* the peer was told, its answer is awaited */
	uint64_t successor_from_us; /* no new worker before: the peer must know first; 0: at once */
	bool announce_switch;	    /* backup: the takeover is a switchover, the peer waits for the
				       outcome */
	uint32_t sync_round;
	uint64_t sync_sent, sync_total;

	/* backup */
	Understudy__PeerPrepare *prepare; /* to be done or answered */
	uint64_t prepare_term;
	bool creating;		  /* understudy-shell create runs */
	bool renaming; /* a child gives the domain its name: no other domain of its id may come meanwhile */
	bool destroying;	  /* understudy-shell destroy runs, for a shell */
	bool shell_made, mapped;  /* understudy-shell is done; the worker takes streams */
	bool was_current;	  /* this shell has held a whole epoch: it may be used again */
	bool awaiting_stream;	  /* token is valid */
	struct heard heard;	  /* backup: of its stream, also when that is over */
	bool invited;	      /* the primary stands still and waits for us to claim its record */
	uint64_t invited_until_us;
	bool failing;	      /* an invited activation failed: the record goes back before the primary hears of it */
	char failed_cause[128];
	bool declared_dead;
	uint64_t declared_us, last_heard_us, begin_us;
	enum fence fence; /* of this death */
	uint64_t fence_at_us, fence_serial;
	bool peer_active;   /* the peer says that it runs the guest */
	uint64_t peer_term; /* the highest term that the peer has spoken of */
};

/* ---- guest.c ---- */

/* Loads the tags and what was untagged. 0 or -errno. */
int guests_load(struct daemon *d);
void guests_free(struct daemon *d);

/* The one way to change a state. `cause` is for the log and the events. */
void guest_event(struct guest *g, enum guest_event event, const char *cause);

struct guest *guest_by_uuid(struct daemon *d, const uint8_t *uuid);
struct guest *guest_by_name(struct daemon *d, const char *name);

/* A new tag; it takes back an untag of the same guest. NULL: no memory, or it cannot be written
 * (logged). */
struct guest *guest_new(struct daemon *d, const struct tag *tag, bool save);

/* The file goes, the object goes; the peer hears of it only if it asked. 0, or -errno (logged):
 * both stay. */
int guest_remove(struct guest *g);

int guest_save(struct guest *g);
const struct policy *guest_policy(const struct guest *g);

/* What a worker is told of TLS: `tls`, filled in, or NULL without [tls]. */
Understudy__WorkerTls *guest_tls(const struct guest *g, Understudy__WorkerTls *tls);
void guest_deadline(struct guest *g, uint64_t ms);
void guest_problem(struct guest *g, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
struct worker_view *guest_worker(struct guest *g);
void guest_tell_peer(struct guest *g);
int guest_command(struct guest *g, Understudy__WorkerCommand *c, int fd);

/* May a worker run for this guest's domain now, and in which role? */
bool guest_wants_worker(const struct guest *g);

/* It runs here, and the peer runs it in the later term `term`. */
void guest_outranked(struct guest *g, uint64_t term);

/* Callbacks of domains, workers, peer and stream; `arg` is the daemon. */
void guests_domains_changed(void *arg);
extern const struct workers_ops guests_workers_ops;
void guests_peer_up(void *arg, bool again);
void guests_peer_down(void *arg, const char *cause);
void guests_peer_message(void *arg, enum peer_type type, const ProtobufCMessage *m);
void guests_stream_arrived(void *arg, const struct stream_hello *hello, int fd);
void guests_tick(struct daemon *d, uint64_t now);

/* ---- guest_untag.c ---- */

/* Makes d->untold. 0 or -errno. */
int guest_untold_load(struct daemon *d);

/* From now on the peer is told that it is untagged, until it confirms. 0, or -errno (logged): it
 * must stay tagged. */
int guest_untold(struct guest *g);

/* Nothing of its protection is left here: the object ends at the next tick. */
void guest_untag_done(struct guest *g);

/* Asks the peer, which runs it, to untag it. */
void guest_request_untag(struct guest *g);

/*
 * The peer says that it runs, in `term`, what may have been untagged here. True: it has not heard
 * of that yet and will untag it. False: it is tagged, whatever was untagged here.
 */
bool guest_untag_stands(struct daemon *d, const uint8_t *uuid, const char *name, uint64_t term);

void guest_peer_untag(struct daemon *d, const Understudy__PeerUntag *m);
void guest_peer_untagged(struct daemon *d, const Understudy__PeerUntagged *m);
void guest_confirm_untag(struct daemon *d, const uint8_t uuid[16], uint64_t serial);

/* ---- guest_primary.c ---- */

void guest_primary_entered(struct guest *g, enum guest_state old, enum guest_event event,
			   const char *cause);
/* What the witness has answered may let it go on. */
void guest_primary_keeper(struct guest *g);
void guest_primary_tick(struct guest *g, uint64_t now);
void guest_primary_looked(struct guest *g);	/* after the first look at the domains, if the host was not restarted */
void guest_primary_hello(struct guest *g, struct worker_view *w);
void guest_primary_worker_event(struct guest *g, struct worker_view *w,
				const Understudy__WorkerEvent *e);
void guest_primary_worker_gone(struct guest *g);
void guest_primary_peer_up(struct guest *g);
void guest_primary_peer_message(struct guest *g, enum peer_type type, const ProtobufCMessage *m);
/* The backup must hear that its copy is stale: sends DROPPED if it must. True if an answer is to be
 * awaited. */
bool guest_primary_tell_dropped(struct guest *g, const char *cause);

/* ---- guest_backup.c ---- */

void guest_backup_entered(struct guest *g, enum guest_state old, enum guest_event event,
			  const char *cause);
void guest_backup_tick(struct guest *g, uint64_t now);
void guest_backup_hello(struct guest *g, struct worker_view *w);
void guest_backup_worker_event(struct guest *g, struct worker_view *w,
			       const Understudy__WorkerEvent *e);
void guest_backup_not_current(struct guest *g);	/* the primary says so */
void guest_backup_domains_changed(struct guest *g, const struct domain_entry *e);
void guest_backup_prepare(struct daemon *d, const Understudy__PeerPrepare *m);
void guest_backup_peer_message(struct guest *g, enum peer_type type, const ProtobufCMessage *m);
void guest_backup_stream_arrived(struct guest *g, const struct stream_hello *hello, int fd);
/* An activated shell gets the guest's name, and somebody who waits for its end as xl would. */
void guest_take_name(struct guest *g);

/* STANDBY only. `switchover`: the primary waits for the outcome. */
void guest_take_over(struct guest *g, const char *cause, bool switchover);

/* The switchover was not done, and will not be. */
void guest_tell_failed(struct guest *g, const char *cause);

/* ---- guest_takeover.c ---- */

/* In STANDBY, at every tick. */
void guest_judge(struct guest *g, uint64_t now);
/* The primary invited a claim, or the record is ours already: as far as that has come. */
void guest_follow_claim(struct guest *g, uint64_t now);

/* Runs `verb` of understudy-shell for the guest's domain; `done` gets the guest unless its state
 * has changed. */
int guest_shell(struct guest *g, const char *verb, const char *arg, const char *input,
		unsigned int limit_ms,
		void (*done)(struct guest *g, int status, const char *out, const char *err));

/* Nothing but this host's `understudy-shell destroy`; then `done`. */
int guest_destroy(struct guest *g,
		  void (*done)(struct guest *g, int status, const char *out, const char *err));

#endif
