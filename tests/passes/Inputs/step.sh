# step.sh: to be sourced, with $plinth, $root and $tmp: a model's whole step as IR text, sizes bound, composites written out.
step() { # NAME MODEL SETTINGS...: to $tmp.NAME; $sizes, or B=8,T=8
  local name=$1 model=$2
  shift 2
  "$plinth" check --graph "$root/models/$model.plinth" "$@" > "$tmp.graph"
  "$plinth" opt --passes="backward,bind{${sizes:-B=8,T=8}},simplify,expand,simplify" "$tmp.graph" -o "$tmp.$name"
}
