/** Numbers on the command line. */

/** @throws RangeError that names the option */
export function integerOption(name: string, value: string, min: number): number {
  const number = Number(value)
  if (value.trim() !== '' && Number.isSafeInteger(number) && number >= min) return number
  throw new RangeError(`--${name} ${value} is not an integer from ${min} on`)
}
