/* ir/ops.c: the op table, made from the rows of ops.def. Nothing here is written by hand per op. */
#include "ir/op.h"

#define A(type, field) { #field, ATTR_##type, (u32)offsetof(S, field) },
#define OP(op, ...)    extern const OpDef def_##op;
#include "ir/ops.def"
#undef OP
#define OP(op, kind, nin, nout, traits, attrs, doc)                         \
	static const AttrField *op##_fields(u32 *n)                         \
	{                                                                   \
		typedef op##_attr S;                                        \
		static const AttrField f[] = { UNWRAP attrs{ NULL, 0,       \
				(u32)offsetof(S, tag_) } };                 \
		*n = (u32)COUNT(f) - 1;                                     \
		return f;                                                   \
	}
#include "ir/ops.def"
#undef OP
#undef A

const OpInfo op_info[OPS] = {
#define OP(op, kind, nin, nout, traits, attrs, doc) \
	[OP_##op] = { #op, doc, kind, nin, nout, traits, op##_fields, sizeof(op##_attr), &def_##op },
#include "ir/ops.def"
#undef OP
};

Op op_named(Str name)
{
	for (u32 i = 0; i < OPS; i++)
		if (str_equal(name, str_of(op_info[i].name)))
			return (Op)i;
	return OPS;
}
