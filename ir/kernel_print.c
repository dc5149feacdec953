/* ir/kernel_print.c: a kernel as text for people and tests:
 *
 *   kernel row "h.0.ln_1.mean"
 *     d0 parallel 1024 (T)
 *     d1 row 768 (D)
 *     s0 read f32[786432] "h.0.resid"
 *     %1 = load f32 s0[768*d0 + d1]
 *     %2 = reduce sum f32 %1                  ; sweep 1
 *     store f32 s1[d0] %2
 */
#include "ir/kernel.h"

static void print_place(const Kernel *k, const Access *a, FILE *to)
{
	bool any = a->offset != 0;
	if (any)
		fprintf(to, "%lld", (long long)a->offset);
	for (u32 d = 0; d < k->ndim; d++) {
		if (!a->stride[d])
			continue;
		if (a->stride[d] == 1)
			fprintf(to, "%sd%u", any ? " + " : "", d);
		else
			fprintf(to, "%s%lld*d%u", any ? " + " : "", (long long)a->stride[d], d);
		any = true;
	}
	for (u32 i = 0; i < a->ndynamic; i++) {
		fprintf(to, "%s%lld*%%%u", any ? " + " : "", (long long)a->dynamic[i].stride,
			a->dynamic[i].index.i);
		any = true;
	}
	if (!any)
		fputs("0", to);
}

static void print_operands(const KInst *in, FILE *to)
{
	for (u32 j = 0; j < 3 && in->in[j].i; j++)
		fprintf(to, "%s%%%u", j ? ", " : " ", in->in[j].i);
}

static void print_inst(const Kernel *k, u32 i, FILE *to)
{
	static const char *const reduce_name[] = { "sum", "max", "min" };
	const KInst *in = &k->inst.v[i];
	const char *type = dtype_info[in->dtype].name;
	fputs("  ", to);
	if (in->op != K_store)
		fprintf(to, "%%%u = ", i);
	switch (in->op) {
	case K_const: fprintf(to, "const %s %.17g", type, in->imm); break;
	case K_index:
		fprintf(to, "index %s ", type);
		print_place(k, in->access, to);
		break;
	case K_load:
		fprintf(to, "load %s s%u[", type, in->access->slot);
		print_place(k, in->access, to);
		fputs("]", to);
		if (in->in[0].i)
			fprintf(to, " if %%%u", in->in[0].i);
		break;
	case K_store:
		fprintf(to, "store %s s%u[", type, in->access->slot);
		print_place(k, in->access, to);
		fprintf(to, "] %%%u", in->in[0].i);
		if (in->in[1].i)
			fprintf(to, " if %%%u", in->in[1].i);
		break;
	case K_reduce: fprintf(to, "reduce %s %s %%%u", reduce_name[in->reduce], type, in->in[0].i); break;
	case K_acc: fprintf(to, "acc %u %s", (u32)in->imm, type); break;
	case K_cast: fprintf(to, "cast %s %%%u", type, in->in[0].i); break;
	case K_random:
		fprintf(to, "random key 0x%llx seed %%%u step %%%u at ", (unsigned long long)in->key,
			in->in[0].i, in->in[1].i);
		print_place(k, in->access, to);
		break;
	case K_scalar:
		fprintf(to, "%s %s", kernel_scalar[in->scalar].name, type);
		print_operands(in, to);
		break;
	default: fprintf(to, "op %u", in->op); break;
	}
	if (in->sweep)
		fprintf(to, "    ; sweep %u", in->sweep);
	fputc('\n', to);
}

static void print_head(const Kernel *k, FILE *to)
{
	fprintf(to, "kernel %s \"%s\"", kernel_class_name[k->class], k->name);
	const struct {
		bool on;
		const char *name;
	} flag[] = { { k->causal, "causal" },         { k->has_mask, "mask" },
		     { k->has_bias, "bias" },         { k->accumulate, "accumulate" },
		     { k->descending, "descending" }, { k->reverse, "reverse" },
		     { k->exclusive, "exclusive" } };
	for (u32 i = 0; i < COUNT(flag); i++)
		if (flag[i].on)
			fprintf(to, " %s", flag[i].name);
	if (k->window)
		fprintf(to, " window %lld", (long long)k->window);
	if (k->scale != 0)
		fprintf(to, " scale %.17g", k->scale);
	if (k->softcap != 0)
		fprintf(to, " softcap %.17g", k->softcap);
	if (k->noperand && k->class != KERNEL_SCATTER && k->class != KERNEL_SCAN && k->class != KERNEL_SORT)
		fprintf(to, " compute %s", dtype_info[k->compute].name);
	fputc('\n', to);
}

void kernel_print(const Kernel *k, FILE *to)
{
	Arena tmp = ARENA("kernel_print");
	print_head(k, to);
	for (u32 d = 0; d < k->ndim; d++) {
		fprintf(to, "  d%u %s %lld", d, dim_role_name[k->dim[d].role], (long long)k->dim[d].extent);
		if (k->ir && k->dim[d].axis.id) {
			Buf name = { .arena = &tmp };
			axis_print(&name, k->ir, k->dim[d].axis);
			fprintf(to, " (%s)", name.text);
		}
		fputc('\n', to);
	}
	for (u32 s = 0; s < k->slot.n; s++) {
		const KSlot *slot = &k->slot.v[s];
		fprintf(to, "  s%u%s%s %s[%lld] \"%s\"", s, slot->read ? " read" : "",
			slot->streamed ? " streamed" : slot->written ? " written" : "", dtype_info[slot->dtype].name,
			(long long)slot->elements, slot->name ? slot->name : "");
		for (u32 i = 0; i < 64; i++)
			if (slot->may_alias >> i & 1)
				fprintf(to, " may-be s%u", i);
		fputc('\n', to);
	}
	for (u32 i = 1; i < k->inst.n; i++)
		print_inst(k, i, to);
	if (k->noperand) {
		fputs("  operands", to);
		for (u32 i = 0; i < k->noperand; i++)
			fprintf(to, " %%%u", k->operand[i].i);
		fputc('\n', to);
	}
	if (k->scatter) {
		fprintf(to, "  add to s%u[", k->scatter->slot);
		print_place(k, k->scatter, to);
		fputs("]\n", to);
	}
	arena_free(&tmp);
}

const char *kernel_shape_text(Arena *a, const Kernel *k)
{
	f64 extent[DIM_ROLES];
	bool there[DIM_ROLES] = { false };
	for (u32 r = 0; r < DIM_ROLES; r++)
		extent[r] = 1;
	for (u32 d = 0; d < k->ndim; d++) {
		extent[k->dim[d].role] *= (f64)k->dim[d].extent;
		there[k->dim[d].role] = true;
	}
	if (k->class == KERNEL_ATTENTION || k->class == KERNEL_ATTENTION_GRAD)
		return arena_printf(a, "%.0f x %.0f heads, %.0f x %.0f%s, %.0f wide", extent[DIM_BATCH],
				    extent[DIM_PARALLEL] * extent[DIM_G] * extent[DIM_R], extent[DIM_M], extent[DIM_N],
				    k->causal ? " causal" : "", extent[DIM_K]);
	static const DimRole order[] = { DIM_BATCH, DIM_PARALLEL, DIM_M,      DIM_N,     DIM_K,      DIM_G,
					 DIM_R,     DIM_V,        DIM_REDUCE, DIM_INDEX, DIM_VECTOR, DIM_ROW };
	Buf b = { .arena = a };
	for (u32 i = 0; i < COUNT(order); i++)
		if (there[order[i]] && (order[i] != DIM_BATCH || extent[DIM_BATCH] > 1))
			buf_printf(&b, "%s%.0f", b.n ? " x " : "", extent[order[i]]);
	return b.n ? b.text : "1";
}
