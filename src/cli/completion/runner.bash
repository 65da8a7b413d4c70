# Completions of runner for bash 4.4 or later.
_runner() {
    local line=${COMP_LINE:0:COMP_POINT} candidate
    # Bash completes the part of a word behind the last = or :, which is $2.
    local word=${line##*[[:space:]]}
    local before=${word%"$2"}
    COMPREPLY=()
    while IFS= read -r candidate; do
        case $candidate in
        :files) compopt -o default ;;
        :directories) compopt -o dirnames ;;
        *)
            candidate=${candidate%%$'\t'*}
            COMPREPLY+=("${candidate#"$before"}")
            ;;
        esac
    done < <(command runner __complete --line "$line" 2>/dev/null)
}
complete -F _runner runner
