/* tools/scaling.c: see scaling.h. */
#include "tools/scaling.h"

#include <math.h>

const ScalingFit scaling_fit[SCALING_FITS] = {
	{ "Hoffmann et al. 2022", 1.69, 406.4, 410.7, 0.34, 0.28 },
	{ "Besiroglu et al. 2024", 1.8172, 482.01, 2085.43, 0.3478, 0.3658 },
};

f64 scaling_loss(const ScalingFit *f, f64 parameters, f64 tokens)
{
	return f->E + f->A / pow(parameters, f->alpha) + f->B / pow(tokens, f->beta);
}

/* At the optimum alpha A / N^alpha = beta B / D^beta: equation 4 of Hoffmann et al. */
void scaling_optimum(const ScalingFit *f, f64 flops, f64 per_parameter, f64 *parameters, f64 *tokens)
{
	f64 both = f->alpha + f->beta, g = pow(f->alpha * f->A / (f->beta * f->B), 1 / both);
	*parameters = g * pow(flops / per_parameter, f->beta / both);
	*tokens = flops / per_parameter / *parameters;
}

f64 scaling_tokens(const ScalingFit *f, f64 parameters)
{
	return pow(f->beta * f->B / (f->alpha * f->A), 1 / f->beta) * pow(parameters, f->alpha / f->beta);
}
