/* tools/scaling_report.c: see scaling_report.h. */
#include "tools/scaling_report.h"
#include "tools/scaling.h"

f64 scaling_parameters(const Model *m)
{
	f64 n = 0;
	for (u32 i = 0; i < m->program->buffer.n; i++) {
		const Buffer *b = &m->program->buffer.v[i];
		n += b->kind == BUFFER_PARAMETER ? (f64)type_elements(b->type) : 0;
	}
	return n;
}

void scaling_print(Arena *a, f64 parameters, f64 per_token, f64 tokens, f64 flops)
{
	flops = flops > 0 ? flops : tokens * per_token;
	f64 has = flops / per_token;
	printf("\nscaling   %.4g FLOPs, %.2f a token for each of the model's %s parameters\n", flops, per_token / parameters, lm_scaled(a, parameters));
	printf("          %-22s %10s %12s %9s %8s\n", "loss by", "parameters", "tokens", "tokens/p.", "nats");
	for (u32 i = 0; i < SCALING_FITS; i++) {
		const ScalingFit *f = &scaling_fit[i];
		f64 n, d, wants = scaling_tokens(f, parameters);
		scaling_optimum(f, flops, per_token / parameters, &n, &d);
		printf("          %-22s %10s %12s %9.1f %8.4f  the best for the budget\n", f->source, lm_scaled(a, n), lm_scaled(a, d), d / n,
		       scaling_loss(f, n, d));
		printf("          %-22s %10s %12s %9.1f %8.4f  this model for the budget\n", "", lm_scaled(a, parameters), lm_scaled(a, has),
		       has / parameters, scaling_loss(f, parameters, has));
		if (tokens > 0 && tokens < wants)
			printf("          this model is the best choice at %s tokens: %s are %.2g of that, and a smaller one would learn more from as "
			       "much arithmetic\n", lm_scaled(a, wants), lm_scaled(a, tokens), tokens / wants);
		else if (tokens > 0)
			printf("          this model is the best choice at %s tokens: %s are enough\n", lm_scaled(a, wants), lm_scaled(a, tokens));
	}
}
