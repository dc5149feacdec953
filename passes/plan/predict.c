/* passes/plan/predict.c: see predict.h. */
#include "passes/plan/predict.h"

#include <math.h>

const char *const limiter_name[LIMITERS] = { "arithmetic", "memory", "launches" };

static f64 extent(const Kernel *k, DimRole role)
{
	f64 n = 1;
	for (u32 d = 0; d < k->ndim; d++)
		n *= k->dim[d].role == role ? (f64)k->dim[d].extent : 1;
	return n;
}

/* Do rows of the operands begin at multiples of 16 bytes, as wide loads for tensor cores want them? By extents of the axes along
 * which operands lie in memory, which in attention are those of a head. */
static bool aligned(const Kernel *k)
{
	u32 bytes = dtype_info[k->compute].bytes;
	bool attention = k->class == KERNEL_ATTENTION || k->class == KERNEL_ATTENTION_GRAD;
	for (u32 d = 0; d < k->ndim; d++) {
		DimRole role = k->dim[d].role;
		if ((role == DIM_K || role == (attention ? DIM_V : DIM_N)) && k->dim[d].extent > 1 && k->dim[d].extent * bytes % 16)
			return false;
	}
	return true;
}

/* Extent of the last dimension of a role, and how many it has. */
static i64 last_extent(const Kernel *k, DimRole role, u32 *n)
{
	i64 extent = 1;
	*n = 0;
	for (u32 d = 0; d < k->ndim; d++)
		if (k->dim[d].role == role) {
			extent = k->dim[d].extent;
			++*n;
		}
	return extent;
}

/* Seconds in which a product's operand that is read through windows is brought into order: one whose columns (or rows) are several
 * dimensions, not stepped through as one. Elements lie together along the last of them or of the sum. */
static f64 windows(const Machine *m, const Kernel *k)
{
	if (k->class != KERNEL_DOT || !m->windows.n)
		return 0;
	static const DimRole role[] = { DIM_M, DIM_N };
	u32 nk;
	i64 together = last_extent(k, DIM_K, &nk);
	f64 seconds = 0;
	for (u32 i = 0; i < COUNT(role); i++) {
		u32 n;
		i64 run = MAX(last_extent(k, role[i], &n), together);
		f64 bytes = extent(k, DIM_BATCH) * extent(k, role[i]) * extent(k, DIM_K) * dtype_info[DT_f32].bytes;
		if (n > 1 && nk > 1)
			seconds += bytes / (m->bandwidth * curve_share(&m->windows, (f64)run));
	}
	return seconds;
}

/* Seconds of what a vector unit does for a kernel's body, in long rows; 0 where the machine does not tell. */
static f64 of_body(const Machine *m, const Kernel *k)
{
	f64 additions = k->effort + k->costly * (m->series > 0 ? m->series - 1 : 0);
	return m->effort > 0 ? additions / (m->peak[DT_f32] * m->effort) : 0;
}

/* Seconds of a kernel's arithmetic that is over places, in rows: by what it takes of a vector unit where the machine tells that. */
static f64 over_rows(const Machine *m, const Kernel *k)
{
	f64 peak = m->peak[DT_f32];
	if (!(m->effort > 0))
		return peak * m->arithmetic > 0 ? k->flops / (peak * m->arithmetic) : 0;
	f64 row = k->ndim ? (f64)k->dim[k->ndim - 1].extent : 1, share = curve_share(&m->rows, row);
	if (k->class != KERNEL_ROW || !m->reductions.n)
		return of_body(m, k) / share;
	/* what waits for sums is what is plain: functions have enough to do meanwhile */
	f64 plain = (k->effort - k->costly) / (peak * m->effort);
	return plain / curve_share(&m->reductions, row) + (of_body(m, k) - plain) / share;
}

/* How long causal attention is that has as many keys for a query as this one. Its query sees half of them, on average. */
static f64 causal_length(const Kernel *k)
{
	return k->causal ? extent(k, DIM_M) : 2 * extent(k, DIM_N);
}

/* FLOPs a second of a kernel that has a skeleton. */
static f64 rate(const Machine *m, const Kernel *k)
{
	f64 peak = machine_peak(m, k->compute);
	if (m->unaligned > 0 && !aligned(k))
		peak *= m->unaligned;
	switch (k->class) {
	case KERNEL_DOT:
	case KERNEL_GROUPED:
	case KERNEL_GROUPED_WEIGHTS: /* many products at once fill the device as one that is as large */
		return peak * curve_share(&m->matmul, cbrt(extent(k, DIM_BATCH) * extent(k, DIM_M) * extent(k, DIM_N) * extent(k, DIM_K)));
	case KERNEL_ATTENTION: return peak * curve_share(&m->attention, causal_length(k)) * curve_share(&m->heads, extent(k, DIM_K));
	case KERNEL_ATTENTION_GRAD: return peak * curve_share(&m->attention_grad, causal_length(k)) * curve_share(&m->heads, extent(k, DIM_K));
	default: return 0;
	}
}

LaunchTime predict_kernel(const Machine *m, const Kernel *k)
{
	f64 bytes = k->bytes_read + k->bytes_written;
	f64 part[LIMITERS] = { [LIMIT_LAUNCH] = m->launch };
	f64 flops = rate(m, k), moved = m->bandwidth * curve_share(&m->stream, bytes);
	if (k->class == KERNEL_SCATTER && m->scatter > 0)
		moved = m->bandwidth * m->scatter;
	/* what is worked out where a product reads its operands and stores its result comes on top: no product hides it there */
	part[LIMIT_ARITHMETIC] = (flops > 0 ? k->flops / flops + of_body(m, k) : over_rows(m, k)) + windows(m, k);
	part[LIMIT_MEMORY] = moved > 0 ? bytes / moved : 0;
	LaunchTime t = { .seconds = m->launch + MAX(part[LIMIT_ARITHMETIC], part[LIMIT_MEMORY]) };
	for (u32 i = 1; i < LIMITERS; i++)
		if (part[i] > part[t.by])
			t.by = (Limiter)i;
	return t;
}

EntryTime predict_entry(const Machine *m, const Plan *p, const EntryPlan *e)
{
	EntryTime total = { 0 };
	for (u32 i = 0; i < e->step.n; i++) {
		LaunchTime t = predict_kernel(m, p->kernel.v[e->step.v[i].kernel]);
		total.seconds += t.seconds;
		total.by[t.by] += t.seconds;
	}
	return total;
}

/* How many of those devices, numbered so, are of one domain. */
static i64 within_domain(const Machine *m, i64 parts, i64 stride)
{
	return stride >= m->domain ? 1 : MIN(parts, m->domain / stride);
}

f64 predict_collective(const Machine *m, Op op, f64 bytes, i64 parts, i64 stride)
{
	if (parts < 2)
		return 0;
	i64 inner = within_domain(m, parts, stride);
	bool leaves = inner < parts;
	bool some = inner > 1 && inner < m->domain && leaves; /* of a domain's devices */
	f64 network = (f64)inner * m->network.bandwidth * (some && m->network.apart > 0 ? m->network.apart : 1), outer = ceil((f64)parts / (f64)inner);
	f64 rate = !leaves ? m->link.bandwidth : inner > 1 ? MIN(m->link.bandwidth, network) : network;
	assert(rate > 0);
	f64 part = (f64)(parts - 1) / (f64)parts;
	f64 around = (outer - 1) * m->network.latency + ((f64)parts - outer) * m->link.latency;
	f64 deep = log2(outer) * m->network.latency + log2((f64)inner) * m->link.latency;
	switch (op) {
	case OP_all_gather:
	case OP_reduce_scatter:
	case OP_all_to_all: return part * bytes / rate + around;
	case OP_all_reduce: return 2 * MIN(part * bytes / rate + around, bytes / rate + deep);
	case OP_permute: return bytes / rate + (leaves ? m->network.latency : m->link.latency);
	default: NEVER("no collective");
	}
}

f64 message_bytes(const KCollective *c)
{
	const all_reduce_attr *a = c->attr; /* `over` and `parts` are first in all of them */
	f64 bytes = 0;
	for (u32 i = 0; i < c->n; i++)
		bytes += (f64)type_bytes(c->type[i]);
	return c->op == OP_all_gather ? bytes * (f64)a->parts : bytes;
}

/* Of devices next to one another along an axis: how far their numbers are apart. */
static i64 stride_of(const Mesh *mesh, const char *axis)
{
	i64 stride = 1;
	for (u32 i = mesh->n; i-- > 0 && mesh->axis[i].name != axis;)
		stride *= mesh->axis[i].size;
	return stride;
}

f64 predict_message(const Machine *m, const Mesh *mesh, const KCollective *c, f64 share)
{
	const all_reduce_attr *a = c->attr;
	return predict_collective(m, c->op, share * message_bytes(c), a->parts, stride_of(mesh, a->over));
}

f64 message_occupies(const Machine *m, const Mesh *mesh, const KCollective *c)
{
	const all_reduce_attr *a = c->attr;
	bool leaves = within_domain(m, a->parts, stride_of(mesh, a->over)) < a->parts;
	return (leaves ? &m->network : &m->link)->occupies;
}
