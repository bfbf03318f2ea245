#!/usr/bin/env bash
# Plants small faults, one at a time, and shows which of them the tests notice.
#
#   tests/mutants/run.sh                 all faults
#   tests/mutants/run.sh FILTER...       those whose name or file contains one of the words
#   tests/mutants/run.sh --list [..]     names them
#   tests/mutants/run.sh --check         only asserts that each fault still fits the code
#
# The faults are in *.faults beside this script; README.md says how they are written. Work happens in
# a copy of the last commit, $MUTANTS_DIR (target/mutants unless given), which is removed at the end;
# its build stays there for the next time. A test command that fails without a fault ends the run.
set -euo pipefail
{ # Read as a whole, so that the script may be edited while it runs.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(git -C "$here" rev-parse --show-toplevel)
dir=${MUTANTS_DIR:-$root/target/mutants}
tree=$dir/tree
limit=${MUTANTS_SECONDS:-1200} # a test that hangs is caught as well
export CARGO_TARGET_DIR=$dir/build CARGO_INCREMENTAL=1 CARGO_PROFILE_RELEASE_DEBUG=0

# The CPU kernels of every instruction set are compiled in engine: quickly, and in many small units.
cargo=(cargo --config profile.release.package.handgrad-engine.opt-level=1
    --config profile.release.package.handgrad-engine.codegen-units=256)

names=() titles=() files=() olds=() news=() tests=() lists=()

# Appends a line to the last element of an array, on a line of its own.
append() {
    local -n array=$1
    local last=$((${#names[@]} - 1))
    if [[ -v array[last] ]]; then array[last]+=$'\n'$2; else array[last]=$2; fi
}

read_faults() {
    local list line
    for list in "$here"/*.faults; do
        while IFS= read -r line; do
            case $line in
                '= '*) names+=("${line:2}"); names[-1]=${names[-1]%%:*}; titles+=("${line#*: }")
                    lists+=("$(basename "$list" .faults)") ;;
                '@ '*) files+=("${line:2}") ;;
                '-') append olds '' ;;
                '- '*) append olds "${line:2}" ;;
                '+') append news '' ;;
                '+ '*) append news "${line:2}" ;;
                '$ '*) append tests "${line:2}" ;;
                '' | '#'*) ;;
                *) echo "$list: not a line of a fault: $line" >&2; exit 2 ;;
            esac
        done <"$list"
    done
    local n=${#names[@]}
    if [[ ${#files[@]} != "$n" || ${#olds[@]} != "$n" || ${#news[@]} != "$n" || ${#tests[@]} != "$n" ]]; then
        echo "a fault lacks one of its lines: = @ - + \$" >&2
        exit 2
    fi
}

# The content of a file; an x at its end keeps line ends from being cut.
content() {
    cat "$1"
    printf x
}

# Every fault's old text must be in its file exactly once.
check_fits() {
    local base=$1 stale=0 i text rest count
    for i in "${!names[@]}"; do
        if [[ ! -f $base/${files[i]} ]]; then
            echo "${names[i]}: ${files[i]} is not there" >&2
            stale=1
            continue
        fi
        text=$(content "$base/${files[i]}")
        rest=${text//"${olds[i]}"/}
        count=$(((${#text} - ${#rest}) / ${#olds[i]}))
        if [[ $count != 1 ]]; then
            echo "${names[i]}: its old text is $count times in ${files[i]}" >&2
            stale=1
        fi
    done
    if [[ $stale != 0 ]]; then
        echo "bring these faults up to date with the code" >&2
        exit 1
    fi
}

planted=()
restore() {
    local n
    for n in "${!planted[@]}"; do
        mv "$dir/whole.$n" "$tree/${planted[n]}"
        # Newer than what was built from the fault.
        touch "$tree/${planted[n]}"
    done
    planted=()
}

finish() {
    restore
    git -C "$root" worktree remove --force "$tree" 2>/dev/null || true
}

plant() {
    local file=$tree/${files[$1]} text
    text=$(content "$file")
    cp -p "$file" "$dir/whole.${#planted[@]}"
    planted+=("${files[$1]}")
    text=${text/"${olds[$1]}"/"${news[$1]}"}
    printf %s "${text%x}" >"$file"
}

# Runs one test command in the copy. 0: passes, 1: fails, 2: does not build.
run_test() {
    local words build
    read -ra words <<<"$1"
    # Up to `--`: what to build.
    build=("${words[@]}")
    local i
    for i in "${!words[@]}"; do
        if [[ ${words[i]} == -- ]]; then
            build=("${words[@]:0:i}")
            break
        fi
    done
    (cd "$tree" && "${cargo[@]}" test --release --quiet --no-run "${build[@]}") >>"$dir/log" 2>&1 || return 2
    (cd "$tree" && timeout "$limit" "${cargo[@]}" test --release --quiet "${words[@]}") >>"$dir/log" 2>&1 || return 1
}

mode=run
filters=()
for arg; do
    case $arg in
        --list | --check) mode=${arg#--} ;;
        --help | -h) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; exit 0 ;;
        -*) echo "$arg: no such option; see --help" >&2; exit 2 ;;
        *) filters+=("$arg") ;;
    esac
done

read_faults
chosen=()
for i in "${!names[@]}"; do
    keep=$((${#filters[@]} == 0))
    for filter in "${filters[@]}"; do
        if [[ ${names[i]} == *"$filter"* || ${files[i]} == *"$filter"* ]]; then keep=1; fi
    done
    if [[ $keep == 1 ]]; then chosen+=("$i"); fi
done
if [[ ${#chosen[@]} == 0 ]]; then
    echo "no fault's name or file contains: ${filters[*]}" >&2
    exit 2
fi
if [[ $mode == list ]]; then
    for i in "${chosen[@]}"; do echo "${names[i]}: ${titles[i]} (${files[i]})"; done
    exit 0
fi
if [[ $mode == check ]]; then
    check_fits "$root"
    echo "${#names[@]} faults fit the code"
    exit 0
fi

mkdir -p "$dir"
: >"$dir/log"
git -C "$root" worktree prune
git -C "$root" worktree remove --force "$tree" 2>/dev/null || true
git -C "$root" worktree add --quiet --force --detach "$tree" HEAD
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
check_fits "$tree"

declare -A sound
for i in "${chosen[@]}"; do
    while IFS= read -r test; do
        if [[ -v sound[$test] ]]; then continue; fi
        if ! run_test "$test"; then
            echo "without a fault this fails: cargo test --release $test (see $dir/log)" >&2
            exit 1
        fi
        sound[$test]=1
    done <<<"${tests[i]}"
done

# The op that a fault is in, if it is tested by that op's tests alone.
op_of() {
    local test op
    [[ ${files[$1]} =~ ^engine/src/ops/([a-z]+)/ ]] || return 0
    op=${BASH_REMATCH[1]}
    while IFS= read -r test; do
        [[ $test =~ ^-p\ handgrad\ --test\ gradients\ --(\ $op::[a-z_]+)+$ ]] || return 0
    done <<<"${tests[$1]}"
    echo "$op"
}

# Faults that are planted together, a list of them an element: no op calls another, so faults in
# different ops do not see each other, and one build serves them all.
batches=() ops=()
for i in "${chosen[@]}"; do
    op=$(op_of "$i")
    place=${#batches[@]}
    if [[ -n $op ]]; then
        for n in "${!batches[@]}"; do
            if [[ -n ${ops[n]} && " ${ops[n]} " != *" $op "* ]]; then place=$n; break; fi
        done
    fi
    batches[place]+="${batches[place]:+ }$i"
    ops[place]+="${ops[place]:+ }$op"
done

# Whether the planted fault $1 is noticed: a line, and a count for the table.
judge() {
    local i=$1 crate=${lists[$1]} begin=$SECONDS verdict=missed by= code test
    crates[$crate]=1
    while IFS= read -r test; do
        code=0
        run_test "$test" || code=$?
        case $code in
            1) verdict=caught by=" by $test"; break ;;
            2) verdict='does not build'; break ;;
        esac
    done <<<"${tests[i]}"
    echo "$verdict: ${names[i]}: ${titles[i]}$by ($((SECONDS - begin)) s)"
    case $verdict in
        caught) caught[$crate]=$((${caught[$crate]:-0} + 1)) ;;
        missed) missed[$crate]=$((${missed[$crate]:-0} + 1)) ;;
        *) broken[$crate]=$((${broken[$crate]:-0} + 1)) ;;
    esac
}

declare -A caught missed broken crates
for batch in "${batches[@]}"; do
    for i in $batch; do plant "$i"; done
    for i in $batch; do judge "$i"; done
    restore
done

echo
echo '| crate | caught | missed | does not build |'
echo '|---|---|---|---|'
all=(0 0 0)
for crate in $(printf '%s\n' "${!crates[@]}" | sort); do
    row=("${caught[$crate]:-0}" "${missed[$crate]:-0}" "${broken[$crate]:-0}")
    echo "| $crate | ${row[0]} | ${row[1]} | ${row[2]} |"
    for k in 0 1 2; do all[k]=$((all[k] + row[k])); done
done
echo "| all | ${all[0]} | ${all[1]} | ${all[2]} |"
[[ ${all[1]} == 0 && ${all[2]} == 0 ]]
exit
}
