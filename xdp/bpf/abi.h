/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* All that the programs and Go share: enums, record layouts, limits. Addresses
 * are 16 bytes in network order, IPv4 mapped (::ffff:a.b.c.d).
 */
#ifndef FAIRLEAD_ABI_H
#define FAIRLEAD_ABI_H

#include <linux/types.h>

/* Three versions, each raised when its subject changes incompatibly. */
enum lb_version {
	LB_VERSION_RECORDS = 1, /* pinned maps */
	LB_VERSION_WIRE = 1,	/* Geneve option */
	LB_VERSION_HASH = 1,	/* slot of a flow */
};

enum lb_limit {
	LB_LINE_SIZE = 64,
	LB_LINE_SLOTS = 30,	     /* slots at rest */
	LB_LINE_TRANSITION_SLOTS = 7, /* slots with a past */
	LB_LINE_BACKENDS = 15,
	LB_PAST_MAX = 3,
	LB_NO_BACKEND = 0xffff, /* in a past */
	LB_SIZES_MAX = 16,	/* lookup table sizes; 0 is "no table" */
	LB_FLOW_WAYS = 8,	/* records of a bucket */
	LB_FLOW_ACK_WINDOW = 16384,
	LB_PORT_TRIES = 8, /* substitute client ports tried */
	LB_TICK_SHIFT = 26, /* a tick is 2^26 ns of CLOCK_MONOTONIC, 67 ms */
	LB_ANSWERS_PER_TICK = 64, /* per CPU: RST and unreachable, about 950/s */
	LB_ANSWERS_BURST = 1024,
	LB_NEXT_HOP_TICKS = 450, /* 30 s: a next hop older than that is stale */
	LB_NODES_MAX = 1024,
	LB_SOCKETS_MAX = 1024,
	LB_QUEUES_MAX = 128, /* of an interface, for the userspace datapath */
	LB_EXTENSIONS_MAX = 4,	  /* IPv6 extension headers walked */
	LB_EXTENSIONS_BYTES = 64, /* and their length */
	LB_FRAGMENT_TICKS = 447,  /* 30 s: what a host waits for the fragments of a datagram */
	LB_FRAGMENTS_MAX = 8192,  /* datagrams whose later fragments are awaited */
	LB_PATH_MTU_MIN = 1280,	  /* lower path MTUs between nodes are not believed */
	LB_PATH_MTU_TICKS = 8940, /* 10 min, RFC 1191 section 6.3 */
};

/* Idle times in ticks. Established TCP is conntrack's five days. */
enum lb_timeout {
	LB_TIMEOUT_TCP_HALF_OPEN = 1118,    /* 75 s: the last SYN-ACK of Linux comes after 63 */
	LB_TIMEOUT_TCP_ESTABLISHED = 6437301, /* 5 days */
	LB_TIMEOUT_TCP_FIN = 1788,	    /* 120 s */
	LB_TIMEOUT_TCP_CLOSED = 224,	    /* 15 s */
	LB_TIMEOUT_UDP_HALF_OPEN = 894,	    /* 60 s */
	LB_TIMEOUT_UDP_ESTABLISHED = 2682,  /* 180 s */
};

enum lb_geneve {
	LB_GENEVE_CLASS = 0xff1d, /* from RFC 8926's experimental range */
	LB_GENEVE_TYPE = 0x81,	  /* critical */
	LB_GENEVE_OPTION_WORDS = 7, /* body, 4 bytes each */
	LB_GENEVE_LEN = 8 + 4 + 28, /* header, option header, option body */
	LB_ENCAP_V4 = 20 + 8 + LB_GENEVE_LEN,
	LB_ENCAP_V6 = 40 + 8 + LB_GENEVE_LEN,
};

/* Where a packet is on its way; it only grows. HOME and REDIRECTED are terminal. */
enum lb_position {
	LB_POSITION_INGRESS = 0,
	LB_POSITION_PAST1 = 1,
	LB_POSITION_PAST2 = 2,
	LB_POSITION_PAST3 = 3,
	LB_POSITION_HOME = 4, /* back home */
	LB_POSITION_REDIRECTED = 5,
};

enum lb_verdict {
	LB_CONTINUE = 0,
	LB_PASS,    /* not ours: untouched to the stack */
	LB_DROP,
	LB_ENCAP,   /* Geneve to another node */
	LB_STEER,   /* Geneve already: on to another node */
	LB_DELIVER, /* to a local backend: decapsulate, DNAT */
	LB_ANSWER,  /* reply from the VIP itself */
	LB_REPLY,   /* from a local backend: source becomes the VIP */
	LB_VERDICT_MAX,
};

/* Why. Each reason belongs to one verdict: see lb_reason_verdict. */
enum lb_reason {
	LB_R_NONE = 0, /* undecided: go on */
	/* pass */
	LB_R_NOT_IP,
	LB_R_OTHER_MAC,	     /* the frame is for another machine, or for many */
	LB_R_NOT_VIP,
	LB_R_LEFT,	     /* for a service that is left to kube-proxy */
	LB_R_CONNTRACKED,    /* of a connection that kube-proxy translates, since before the service was ours */
	LB_R_NEIGHBOR,	     /* neighbor discovery about a VIP, which who announces it answers */
	LB_R_FOREIGN_TUNNEL, /* Geneve on our port that is not ours */
	LB_R_NOT_REPLY,	     /* leaves, and is no reply of a local backend */
	LB_R_NO_FLOW,	     /* leaves from a local backend, but belongs to no flow */
	/* drop */
	LB_R_MALFORMED,
	LB_R_HEADERS,	   /* IPv6 extension headers that are not walked to their end */
	LB_R_FRAGMENT,	   /* a later one whose first was not seen */
	LB_R_MARTIAN,	   /* a source that nobody has */
	LB_R_PROTO,	   /* to a VIP, neither TCP, UDP nor ICMP */
	LB_R_ICMP,	   /* to a VIP, neither echo request nor error about a service */
	LB_R_ICMP_ORPHAN,  /* an error about no flow */
	LB_R_TUNNEL_ERROR, /* a router's error about what we sent to a node: learned from, and done */
	LB_R_UNKNOWN_PORT,
	LB_R_SOURCE_RANGE,
	LB_R_NO_LOCAL_BACKENDS,
	LB_R_STALE_TABLE,
	LB_R_TTL,
	LB_R_TOO_BIG,
	LB_R_NO_NODE,
	LB_R_BAD_OPTION,   /* our class, but version, length or position unknown */
	LB_R_BAD_MAC,
	LB_R_CONGESTED,	   /* marked on its way in the tunnel, and its sender knows no ECN */
	LB_R_UNKNOWN_SERVICE, /* authentic, but the service is not known here */
	LB_R_NOT_LOCAL,	   /* terminal, but the backend is not on this node */
	LB_R_FLOWS_FULL,   /* a bucket full of established flows */
	LB_R_FLOWS_BUSY,   /* lost the race for a record */
	LB_R_PORTS,	   /* no free substitute client port */
	LB_R_RATE,	   /* an answer above the rate limit */
	LB_R_NO_AGENT,	   /* nobody runs the userspace datapath */
	LB_R_ERROR,	   /* a helper failed */
	/* encap */
	LB_R_ENCAP_HOME,
	LB_R_ENCAP_PAST,
	LB_R_ENCAP_OWNER, /* registered stray */
	/* steer */
	LB_R_STEER_PAST,
	LB_R_STEER_HOME,
	LB_R_STEER_OWNER,
	/* deliver */
	LB_R_MINE,
	LB_R_NEW,
	LB_R_AFFINITY, /* new, on the backend that the client is remembered for */
	LB_R_JUDGE,    /* unknown and no beginning: the Pod's kernel decides */
	LB_R_RELATED,  /* an ICMP error about a flow of ours */
	/* answer */
	LB_R_ECHO,
	LB_R_REFUSED, /* no backends: RST or unreachable */
	LB_R_PACKET_TOO_BIG, /* does not fit through the tunnel: fragmentation needed, packet too big */
	/* reply */
	LB_R_TRANSLATED,
	LB_R_MAX,
};

/* A service port. The table word is swapped with one write; its bits, from
 * the lowest: line 24, size 4, one spare, transition 1, generation 18, hash 16.
 */
struct lb_service {
	__u64 table;
	__u8 vip[16];
	__be16 port;
	__u8 proto;
	__u8 flags; /* enum lb_service_flag */
	__u32 tag;
	__u32 affinity_ticks;
	__u32 past_until; /* tick; for the agent */
	__u8 pad[24];
};
_Static_assert(sizeof(struct lb_service) == 64, "one cache line");

enum lb_service_flag {
	LB_SERVICE_LIVE = 1,
	LB_SERVICE_LOCAL = 2,
	LB_SERVICE_ELSEWHERE = 4, /* Local: candidates on other nodes only */
	LB_SERVICE_RANGES = 8,
	LB_SERVICE_LEFT = 16, /* to kube-proxy */
	LB_SERVICE_ADOPTED = 32, /* from kube-proxy, which may still have connections of it */
	LB_SERVICE_CLOSED = 64, /* all candidates drain: no new flows */
};

struct lb_service_key {
	__u8 vip[16];
	__be16 port; /* 0 with proto 0: the VIP itself */
	__u8 proto;
	__u8 pad;
};
_Static_assert(sizeof(struct lb_service_key) == 20, "no gaps");

struct lb_backend {
	__u8 addr[16];
	__be16 port;
	__u16 node; /* 0: this node */
	__u32 tag;  /* wire id; 0: the entry is free */
	__u8 pad[8];
};
_Static_assert(sizeof(struct lb_backend) == 32, "half a cache line");

struct lb_backend_key {
	__u8 addr[16];
	__be16 port;
	__u8 pad[2];
};
_Static_assert(sizeof(struct lb_backend_key) == 20, "no gaps");

struct lb_endpoint_key {
	__u32 service;
	__u32 tag;
};

struct lb_endpoint {
	__u32 backend;
	__u32 flags; /* enum lb_endpoint_flag */
};

enum lb_endpoint_flag {
	LB_ENDPOINT_DRAINING = 1,
};

struct lb_range_key {
	__u32 prefixlen; /* 32 + 96 + bits for IPv4 */
	__u32 service;
	__u8 addr[16];
};
_Static_assert(sizeof(struct lb_range_key) == 24, "no gaps");

/* A peer node. The next hop is written by the agent; an old one is left to the stack. */
struct lb_node {
	__u8 addr[16]; /* outer destination; zero: the entry is free */
	__u32 ifindex;
	__u32 confirmed; /* tick; 0: never */
	__u8 dmac[6];
	__u8 smac[6];
	__u16 mtu;	 /* of the path, learned from an error; 0: the uplink's */
	__u8 pad[2];
	__u32 mtu_until; /* tick */
	__u8 pad2[20];
};
_Static_assert(sizeof(struct lb_node) == 64, "one cache line");
_Static_assert(__builtin_offsetof(struct lb_node, smac) == __builtin_offsetof(struct lb_node, dmac) + 6, "copied as one");

enum lb_flow_kind {
	LB_FLOW_FREE = 0,
	LB_FLOW_OWN,	  /* a connection of a local backend */
	LB_FLOW_ALIAS,	  /* finds the flow whose substitute port this is */
	LB_FLOW_REDIRECT, /* a registered stray: owned by another node */
	LB_FLOW_AFFINITY, /* a client that is remembered; port and proto 0 */
};

enum lb_flow_state {
	LB_FLOW_HALF_OPEN = 0,
	LB_FLOW_ESTABLISHED,
};

enum lb_flow_flag {
	LB_FLOW_ISN = 1,	/* isn is known */
	LB_FLOW_UNVERIFIED = 2, /* did not begin with a SYN: the Pod has to confirm it */
	LB_FLOW_CLIENT_FIN = 4,
	LB_FLOW_CLIENT_RST = 8,
	LB_FLOW_POD_FIN = 16,
	LB_FLOW_POD_RST = 32,
};

/* The owner's record of a connection. seq is even at rest and odd while a
 * program rewrites the record; what changes during a flow's life (seen, state,
 * flags, isn) is stored in single words without it.
 */
struct lb_flow {
	__u64 seq;
	__u8 client[16];
	__be16 port; /* the client's */
	__u8 proto;
	__u8 kind;	/* enum lb_flow_kind */
	__u32 service;
	__u32 service_tag;
	__u32 backend;
	__u32 backend_tag;
	__u32 seen;	/* tick of the last packet */
	__be16 pod_port; /* the client's port as the Pod sees it */
	__u8 state;	/* enum lb_flow_state */
	__u8 flags;	/* enum lb_flow_flag */
	__u32 isn;	/* the Pod's initial sequence number, host order */
	__u16 slot;	/* of the flow in the Cluster table; 0xffff: unknown */
	__u16 node;	/* REDIRECT: the owner */
	__u32 until;	/* REDIRECT: end of the lease; AFFINITY: end of memory; tick */
};
_Static_assert(sizeof(struct lb_flow) == 64, "one cache line");

/* What XDP decided, in front of the packet for TC. Constant for all packets of
 * a flow, so that GRO goes on merging them.
 */
struct lb_meta {
	__u16 magic;
	__u8 reason;	/* enum lb_reason */
	__u8 position;	/* ENCAP, STEER */
	__u32 service;
	__u32 backend;	/* DELIVER */
	__u16 node;	/* ENCAP, STEER */
	__be16 detail;	/* DELIVER: the client's port for the Pod; ENCAP: the table hash */
	__be32 tags[4];	/* ENCAP: home and past */
};
_Static_assert(sizeof(struct lb_meta) == 32, "what every driver carries");

enum lb_meta_magic {
	LB_META_MAGIC = 0xfa1d,
};

/* Our Geneve option's body, after the option header. */
struct lb_option {
	__u8 version;
	__u8 position;
	__be16 table_hash;
	__be32 tags[4]; /* home, past 1 to 3; 0: none */
	__be64 mac;	/* SipHash-1-3 over the option, the inner addresses and ports */
} __attribute__((packed, aligned(4)));
_Static_assert(sizeof(struct lb_option) == 4 * LB_GENEVE_OPTION_WORDS, "fixed length");

/* The datagram that a fragment belongs to (RFC 791, RFC 8200 section 4.5). */
struct lb_fragment_key {
	__u8 src[16];
	__u8 dst[16];
	__u32 id; /* host order */
	__u8 proto;
	__u8 pad[3];
};
_Static_assert(sizeof(struct lb_fragment_key) == 40, "no gaps");

struct lb_fragment_ports {
	__be16 sport, dport;
	__u32 seen; /* tick */
};

/* What one program run knows of its packet. Addresses are two words in memory
 * order. For a tunnelled packet they are the inner ones; of an ICMP error about
 * a flow they are, with ports and protocol, the flow's.
 */
struct lb_pkt {
	__u64 src[2];
	__u64 dst[2];
	__be16 sport, dport;
	__u32 seq, ack; /* host order */
	__u32 len;	/* of the IP packet */
	__u16 l3, l4;	/* offsets in the frame */
	__u16 quote, quote_l4; /* the same of the packet that an ICMP error quotes */
	__u8 proto;
	__u8 family; /* 4 or 6 */
	__u8 tos;
	__u8 ttl;
	__u8 tcp_flags;
	__u8 tcp_words; /* header length, 4 bytes each */
	__u8 icmp_type;
	__u8 tags_len; /* of VLAN tags in front of l3, bytes */
	/* marks of the parser */
	__u8 malformed, bad_headers;
	__u8 dont_fragment;
	__u8 fragment; /* enum lb_fragment */
	__u8 followed; /* a later fragment, and its first was found */
	__u8 related;  /* an ICMP error about a flow */
	__u16 mtu;     /* in an ICMP error or for one; 0: none */
	__u32 fragment_id;
	/* of a tunnelled packet */
	__u8 tunnelled;
	__u8 outer_family;
	__u8 outer_tos;
	/* the decision */
	__u8 position;
	__u16 node;
	__be16 table_hash;
	__be16 pod_port; /* the client's port for the Pod */
	__u8 piece;	 /* of a packet that is fragmented: which, from 0 */
	__u8 pad;
	__u32 service;
	__u32 backend;
	__be32 tags[4];
	__be64 mac; /* as received */
	__u64 hash; /* flow hash */
};

/* What userspace asks lb_owner for, and its answer in pkt and reason. */
struct lb_owner_query {
	struct lb_pkt pkt;
	__u32 reason; /* enum lb_reason */
	__u32 pad;
};

struct lb_service_stats {
	__u64 packets;
	__u64 bytes;
};

/* What has to outlive the agent but is no table. */
struct lb_identity {
	__u64 flow_key[2]; /* SipHash key of the flow table */
	__u32 records;	   /* LB_VERSION_RECORDS of the writer */
	__u32 pad;
};

/* What a loop of the userspace datapath counted, by enum lb_reason. */
struct lb_loop_counters {
	__u64 packets[LB_R_MAX];
};

struct lb_bucket {
	__u32 tokens;
	__u32 tick;
};

#endif
