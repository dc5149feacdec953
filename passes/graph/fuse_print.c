/* passes/graph/fuse_print.c: groups for people (`plinth show --stage=fused`): what each computes, stores, reads and moves, and why it ends. */
#include "passes/fuse.h"
#include "passes/lower/lower.h"

static void print_traffic(const Grouping *f, u32 group, Arena *tmp, FILE *to)
{
	const Val *value;
	const Kernel *k = lower_group(tmp, f, group, (Val){ 0 }, &value);
	fputs("  reads", to);
	for (u32 i = 0; i < k->slot.n; i++)
		if (k->slot.v[i].read)
			fprintf(to, " %s", k->slot.v[i].name);
	fprintf(to, "\n  traffic %.0f bytes read, %.0f written; %.0f FLOP\n", k->bytes_read, k->bytes_written, k->flops);
}

void grouping_print(const Grouping *f, FILE *to)
{
	Arena tmp = ARENA("print");
	for (u32 o = 0; o < f->norder; o++) {
		const Group *gr = &f->group.v[f->order[o]];
		const Node *root = &f->g->node.v[gr->root];
		Buf b = { .arena = &tmp };
		type_print(&b, gr->shape);
		fprintf(to, "group %u: %s over %.*s  # %s%s", o, kernel_class_name[gr->class], STR_ARG(buf_str(&b)),
			root->scope, *root->scope ? " " : "");
		diag_print_place(f->g->ir->diag, root->loc, to);
		fputs("\n  computes", to);
		for (u32 i = 0; i < gr->member.n; i++) {
			const Node *n = &f->g->node.v[gr->member.v[i]];
			fprintf(to, " %%%u=%s", n->out.i, op_info[n->op].name);
		}
		fputs("\n  stores", to);
		for (u32 i = 0; i < gr->stored.n; i++)
			fprintf(to, " %%%u", gr->stored.v[i].i);
		fputc('\n', to);
		print_traffic(f, f->order[o], &tmp, to);
		fprintf(to, "  ends because %s", gr->why ? gr->why : "nothing follows that could join it");
		if (gr->why_node != NONE) {
			const Node *by = &f->g->node.v[gr->why_node];
			fprintf(to, " (%s%s%s ", op_info[by->op].name, *by->scope ? " in " : "", by->scope);
			diag_print_place(f->g->ir->diag, by->loc, to);
			fputc(')', to);
		}
		fputc('\n', to);
	}
	arena_free(&tmp);
}
