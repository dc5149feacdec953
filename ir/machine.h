/* ir/machine.h: a machine as planning sees it: what a `machine` block of the language says (the files of machines/,
 * docs/planning.md). Units: FLOPs a second, bytes, bytes a second, seconds, watts, dollars an hour. A device is one
 * GPU, or all threads of one CPU. */
#ifndef PL_MACHINE_H
#define PL_MACHINE_H
#include "ir/type.h"

/* What share of a limit is reached, by the size of the work: points in ascending order of `at`; between two of them
 * the share changes linearly with the logarithm of the size, beyond the ends it stays. */
typedef struct CurvePoint {
	f64 at, share;
} CurvePoint;

typedef struct Curve {
	const CurvePoint *point;
	u32 n; /* 0: the whole of the limit */
} Curve;
f64 curve_share(const Curve *c, f64 at);

typedef struct Link {
	f64 bandwidth; /* one way, of one device */
	f64 latency;
	f64 apart; /* of a network, share of its bandwidth that is left to groups with some devices of a domain, but not one or all; 0: all of it */
	f64 occupies; /* share of a message's time that it takes of the device's own, whatever kernels are there to run beside it */
} Link;

typedef struct Machine {
	const char *name;   /* "NVIDIA H100 SXM5 80 GB" */
	const char *device; /* that a plan is made for: "cpu", "cuda" */
	const char *arch;   /* of a GPU: "sm_90a"; of a CPU: its name, as LLVM calls it, or NULL: this one */
	f64 peak[DTYPES];   /* of matrix products with operands of the type, dense, with sums in f32; f8e4m3: both of 8 bits; 0: machine_peak */
	f64 memory;         /* of a device */
	f64 reserved;       /* of it, what a driver and libraries take */
	f64 bandwidth;      /* from and to memory */
	f64 launch;         /* of a kernel: from the end of one to the start of the next */
	f64 arithmetic;     /* share of the f32 peak that kernels other than products reach */
	f64 effort;         /* the same in additions as ir/scalar.def counts them; 0: FLOPs count, at `arithmetic` */
	f64 series;         /* how many times as many costly functions take as it says, and elements that lie apart; 0: once */
	Curve rows;         /* of `effort`, by the length of the rows that a kernel is over */
	Curve reductions;   /* the same of what is no costly function in kernels that sum over their rows (norms, softmax); none: as `rows` */
	f64 unaligned;      /* share of what they else reach, of products whose rows do not begin at multiples of 16 bytes; 0: all of it */
	Curve matmul;       /* of the peak, by the cube root of M N K of all that one kernel makes */
	Curve attention;    /* of the peak, by the queries of a head */
	Curve attention_grad;
	Curve heads;        /* of what attention's curves say, by the features of a head: 1 at those that they were measured with */
	Curve windows;      /* of the bandwidth, at which products bring windows of an operand (a convolution's) into order, by how many elements lie
			     * together; before the product itself. None: at no cost */
	f64 scatter;        /* share of the bandwidth, of rows that are added where an index says; 0: as `stream` */
	Curve stream;       /* of the bandwidth, by the bytes that a kernel touches: above 1 what stays in caches */
	f64 uneven;         /* share of their work that devices which meet wait for one another: none is always as fast as the next */
	i64 domain;         /* devices that `link` joins; what is beyond goes by `network` */
	Link link, network;
	f64 power;          /* of a device under load, with its share of the host; 0: unknown */
	f64 price;          /* of a device; 0: unknown */
	const char *disturbed; /* "effort by 40%": what may be so far off, for others used the machine while it was measured; NULL: nothing is */
} Machine;

/* FLOPs a second, at most, of products that take such operands: that of f32 where the type has none of its own. A machine without one for f8e4m3
 * has no products of 8 bits, and a program that is planned for it none of them. */
f64 machine_peak(const Machine *m, DType compute);
bool machine_products_f8(const Machine *m);

#endif
